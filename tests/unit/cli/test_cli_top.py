import json
import time
from pathlib import Path

import pytest

from collectord.daemon.indexing import index_directory
from collectord.index.gap import IndexSources
from collectord.index.tally import ReportTally
from collectord.index.writer import IndexFile, IndexLimits
from collectord.model import CrashFacts
from collectord.settings.loading import load_settings
from collectord.telling import SeenReport
from tests.unit.cli.command import run


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IndexFile:
    """Of the daemon with the settings of the command."""
    state = tmp_path / "state"
    monkeypatch.setenv("COLLECTORD_STATE__DIRECTORY", str(state))
    limits = IndexLimits(keep_s=86400.0, max_bytes=10_000_000)
    return IndexFile(index_directory(load_settings(None)), [], limits, IndexSources(lambda since: iter(())))


def see(index: IndexFile, product: str, times: int) -> None:
    now = time.time()
    tally = ReportTally()
    facts = CrashFacts(fingerprint=f"1:{product}", place=f"{product}.dll\x1b[31m 0x1f", exception_name="SIGSEGV")
    for number in range(times):
        became = "left_out" if number else "kept"
        tally.note(SeenReport(at=now, product=product, version="1.0", facts=facts, became=became, rule="flood"))  # type: ignore[arg-type]
    index.write([], [tally.take()], None, now)
    index.close()


def test_top(index: IndexFile) -> None:
    see(index, "Rare", 2)
    see(index, "Often", 1200)
    shown = run("top")
    assert shown.exit_code == 0
    first, second = (line.strip() for line in shown.stdout.splitlines() if "1:" in line)
    assert first.split()[:8] == ["1:Often", "Often.dll\\x1b[31m", "0x1f", "SIGSEGV", "Often", "1.0", "1,200", "1"]
    assert second.startswith("1:Rare")
    assert "2 in the last 24 hours" in shown.stdout


def test_top_for_scripts(index: IndexFile) -> None:
    see(index, "Often", 30)
    answer = json.loads(run("top", "--json", "--by", "rising").stdout)
    (found,) = answer["fingerprints"]
    assert (found["fingerprint"], found["day"], answer["total"]) == ("1:Often", {"seen": 30, "kept": 1}, 1)


def test_products(index: IndexFile) -> None:
    for number in range(3):
        see(index, f"P{number}", 10 - number)
    shown = run("top", "--products", "--limit", "1").stdout
    assert [line.split() for line in shown.splitlines() if "P0" in line or "others" in line] == [
        ["P0", "1.0", "10", "1", "10", "1"],
        ["2", "others", "17", "2", "17", "2"],
    ]


def test_without_an_index(index: IndexFile) -> None:
    shown = run("top")
    assert shown.exit_code != 0
    assert "the index of the daemon can't be read" in str(shown.exception) + shown.stderr


def test_the_settings_want_no_index(index: IndexFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTORD_INDEX__ENABLED", "false")
    shown = run("top")
    assert shown.exit_code != 0
    assert "[index] enabled is false" in str(shown.exception) + shown.stderr
