"""
C{collectord audit} of what a real daemon did: kills and stops leave nothing unaccounted for, and a missing crash is.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from collectord.observe.journal.lines import journal_path
from collectord.observe.journal.reader import Journal
from tests.e2e.test_e2e_crashmover import files_of_crashes, moving, submit
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.load import SMALL, load
from tests.support.wait import until

pytestmark = pytest.mark.e2e

COLLECTORD = Path(sys.executable).with_name("collectord")


@frozen
class Locations:
    """Of one daemon."""

    path: Path

    @property
    def source(self) -> Path:
        return self.path / "crashes"

    @property
    def destination(self) -> Path:
        return self.path / "processing"

    @property
    def journals(self) -> Path:
        return self.source / "ledger"

    @property
    def work(self) -> Path:
        return self.path / "work"

    def daemon(self, *, moves: bool = True) -> Daemon:
        port = free_port()
        toml = config(port, self.source, moves=moves) + (moving(self.destination) if moves else "")
        return Daemon(toml, port, self.work)

    def audit(self, *args: str) -> dict[str, Any]:
        """Of today, by the settings of the last daemon; its exit status fits."""
        command = [str(COLLECTORD), "audit", "today", "--config", str(self.work / "collectord.toml"), "--json", *args]
        ran = subprocess.run(command, cwd=self.work, capture_output=True, text=True, timeout=60, check=False)
        assert ran.stderr == ""
        output: dict[str, Any] = json.loads(ran.stdout)
        assert ran.returncode == (1 if output["fates"]["unaccounted"] else 0)
        return output

    def fates(self, *args: str) -> dict[str, int]:
        return {fate: count for fate, count in self.audit(*args)["fates"].items() if count}

    def lines(self) -> set[tuple[str, str]]:
        """What and about what."""
        return {(line.kind, line.subject) for line in Journal(self.journals, today())}


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    return Locations(tmp_path)


def today() -> str:
    return f"{datetime.now(UTC):%Y%m%d}"


def test_what_was_moved(locations: Locations) -> None:
    with locations.daemon() as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(50)))
        until(lambda: not files_of_crashes(locations.source))
        output = locations.audit()
        assert output["fates"]["moved"] == output["crashes"] == 50
        assert output["moved"] == output["at_destinations"] == {str(locations.destination): 50}
        assert output["unclean_stops"] == []
    assert {("kept", crash_id) for crash_id in acknowledged} <= locations.lines()
    assert locations.journals.stat().st_mode & 0o777 == 0o700
    assert {kind for kind, _ in locations.lines()} == {"start", "stop", "kept", "moved", "removed"}


def test_kills_leave_nothing_unaccounted(locations: Locations) -> None:
    daemon = locations.daemon()
    acknowledged: dict[str, str] = {}
    for n in range(3):
        daemon.start()
        with load(daemon.port, shapes=[SMALL]) as clients:
            clients.wait_for_more(50)
            until(lambda n=n: sum(kind == "start" for kind, _ in locations.lines()) == n + 1)  # type: ignore[misc]
            daemon.kill()
        acknowledged |= clients.acknowledged
        output = locations.audit()
        assert output["unaccounted"] == [], n
        assert len(output["unclean_stops"]) == n + 1
    with daemon:
        until(lambda: not files_of_crashes(locations.source), 60)
        output = locations.audit()
    assert output["unaccounted"] == []
    assert output["crashes"] >= len(acknowledged) - 150  # lines of the last quarter of a second before a kill are lost
    assert stored_crashes(locations.destination).keys() >= acknowledged.keys()


def test_a_stop_while_crashes_are_moved_loses_no_line(locations: Locations) -> None:
    with locations.daemon(moves=False) as daemon:
        submit(daemon, *(f"n{n}" for n in range(300)))
    assert locations.fates() == {"stays": 300}
    with locations.daemon() as daemon:
        until(lambda: len(list(locations.destination.glob("*/name/*/*/*.json"))) > 20)
        daemon.stop()
        fates = locations.fates()
        assert fates.keys() == {"waiting", "moved"}
        assert sum(fates.values()) == 300
        assert locations.audit()["unclean_stops"] == []


def test_a_file_that_was_removed_by_hand(locations: Locations) -> None:
    with locations.daemon(moves=False) as daemon:
        acknowledged = submit(daemon, "one", "two", "three")
        until(lambda: {("kept", crash_id) for crash_id in acknowledged} <= locations.lines())
    assert locations.fates() == {"stays": 3}
    removed = next(iter(acknowledged))
    for path in files_of_crashes(locations.source):
        if path.name.startswith(removed):
            path.unlink()
    output = locations.audit()
    assert [crash["crash_id"] for crash in output["unaccounted"]] == [removed]
    assert [line["what"] for line in output["unaccounted"][0]["lines"]] == ["kept"]
    assert output["fates"]["stays"] == 2


def test_a_damaged_journal_is_made_anew_while_the_daemon_runs(locations: Locations) -> None:
    with locations.daemon(moves=False) as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(20)))
        until(lambda: {("kept", crash_id) for crash_id in acknowledged} <= locations.lines())
        journal = journal_path(locations.journals, today())
        lines = journal.read_bytes().splitlines(keepends=True)
        hole = b"".join(lines[2:9])  # from the middle of one line to the middle of another
        journal.write_bytes(b"".join(lines[:2]) + hole[:20] + bytes(len(hole) - 40) + hole[-20:] + b"".join(lines[9:]))
        assert locations.audit()["damaged_lines"] > 0
        output = locations.audit("--rebuild")
        assert output["rebuilt"]["added"] >= 5
        assert output["damaged_lines"] == 0
        assert output["fates"]["stays"] == output["kept"][str(locations.source)] == 20
        (late,) = submit(daemon, "late")
        until(lambda: ("kept", late) in locations.lines())
    assert "Traceback" not in daemon.log()


def test_a_journal_that_can_t_be_written_harms_nobody(locations: Locations) -> None:
    locations.source.mkdir()
    locations.journals.write_text("a file, where the directory should be")
    with locations.daemon() as daemon:
        acknowledged = submit(daemon, "one", "two")
        until(lambda: not files_of_crashes(locations.source))
        until(lambda: "the journal can't be written" in daemon.log())
    assert stored_crashes(locations.destination).keys() == acknowledged.keys()
    assert "Traceback" not in daemon.log()
    assert daemon.log().count("the journal can't be written") == 1
