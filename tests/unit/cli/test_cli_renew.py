"""
C{collectord crashes renew}: crashes that nothing would move are new again, durably, and nothing else of them changes.
"""

import json
import os
from pathlib import Path

import pytest

from collectord.model import CrashEvent
from collectord.observe.journal.lines import format_event, journal_path
from tests.unit.cli.command import CRASH_ID, NEIGHBOUR, STRANGER, files_below, keep, lines, raw_crash_of, run


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.cli.audit.time.sleep", lambda seconds: None)


def is_new(root: Path, crash_id: str) -> bool:
    return any(os.path.exists(f"{link}/{crash_id}.json") for link in root.glob(f"*/date/*/*/{crash_id}"))


def without_staging(root: Path) -> dict[str, bytes]:
    return {path: content for path, content in files_below(root).items() if not path.startswith("staging")}


def test_a_crash_that_is_named_is_new_again(root: Path) -> None:
    linked = keep(root)
    wanted = without_staging(root)
    os.unlink(linked.link)
    os.rmdir(linked.date_dir)
    done = run("crashes", "renew", f"bp-{CRASH_ID}")
    assert (done.exit_code, done.stdout) == (0, f"{CRASH_ID} is new\n")
    assert without_staging(root) == wanted
    again = run("crashes", "renew", CRASH_ID, "--json")
    assert json.loads(again.stdout) == {
        "crash_id": CRASH_ID,
        "store": str(root),
        "renewed": False,
        "why_not": None,
    }
    assert os.listdir(root / "staging") == ["lock"]


def test_a_crash_of_socorro_s_collector_has_one_link_wherever_that_is(root: Path) -> None:
    place = keep(root, {**raw_crash_of(CRASH_ID), "metadata": {}})
    slot = Path(place.date_dir).with_name("19_12")
    os.rename(place.date_dir, slot)
    before = without_staging(root)
    assert json.loads(run("crashes", "renew", CRASH_ID, "--json").stdout)["renewed"] is False
    assert without_staging(root) == before


def test_all_whose_link_is_lost(root: Path) -> None:
    keep(root, raw_crash_of(CRASH_ID), new=False)
    keep(root, raw_crash_of(NEIGHBOUR), new=False)
    keep(root, raw_crash_of(STRANGER), new=False)  # of the next day
    (root / "ledger").mkdir()
    moved = CrashEvent(at=0.0, crash_id=NEIGHBOUR, kind="moved", where="s3")
    journal_path(root / "ledger", "20160622").write_text(format_event(moved))
    assert run("crashes", "renew", "--day", "20160622").exit_code == 0
    assert [is_new(root, crash_id) for crash_id in (CRASH_ID, NEIGHBOUR, STRANGER)] == [True, False, False]
    assert [line["crash_id"] for line in lines(run("crashes", "renew", "--all-unlinked", "--json"))] == [STRANGER]
    assert run("crashes", "renew", "--all-unlinked").stdout == "no crash has lost its link\n"
    assert run("crashes", "renew", NEIGHBOUR).exit_code == 0
    assert is_new(root, NEIGHBOUR)


def test_a_crash_that_is_not_whole_is_refused(root: Path) -> None:
    place = keep(root, new=False)
    Path(place.dump("extra_2")).write_bytes(b"something other")
    keep(root, raw_crash_of(NEIGHBOUR), new=False)
    done = run("crashes", "renew", CRASH_ID, NEIGHBOUR)
    assert done.exit_code == 1
    assert f"{CRASH_ID} stays as it is: the dump extra_2 has the checksum" in done.stderr
    assert not is_new(root, CRASH_ID)
    assert is_new(root, NEIGHBOUR)


def test_a_crash_that_another_process_works_on_is_refused(root: Path) -> None:
    place = keep(root, new=False)
    other = root / "staging" / "host-1-00000000"
    other.mkdir(parents=True)
    os.link(place.raw_crash, other / f"{CRASH_ID}.json")
    done = run("crashes", "renew", CRASH_ID)
    assert done.exit_code == 1
    assert "has this crash in hand" in done.stderr


def test_a_crash_in_the_quarantine_is_refused(root: Path) -> None:
    from tests.unit.cli.command import put_aside

    put_aside(root, keep(root))
    done = run("crashes", "renew", CRASH_ID)
    assert done.exit_code == 1
    assert "quarantine release" in done.stderr


@pytest.mark.parametrize("args", [[], [CRASH_ID, "--day", "today"], ["--day", "today", "--all-unlinked"]])
def test_crashes_are_chosen_in_one_way(root: Path, args: list[str]) -> None:
    assert run("crashes", "renew", *args).exit_code == 2


def test_without_a_journal_nobody_knows_what_was_moved(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTORD_LEDGER__ENABLED", "false")
    keep(root, new=False)
    assert run("crashes", "renew", "--all-unlinked").exit_code == 2
    assert run("crashes", "renew", CRASH_ID).exit_code == 0
