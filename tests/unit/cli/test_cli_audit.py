"""
C{collectord audit}, on stores and journals that a test makes.
"""

import errno
import gzip
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from click.testing import Result

from collectord.audit import scan
from collectord.audit.fates import FATES
from collectord.cli.audit import audit_command
from collectord.cli.main import main
from collectord.model import CrashEvent, Step
from collectord.observe.journal.lines import Line, compressed_path, format_event, journal_path, time_of
from collectord.observe.journal.reader import Journal
from collectord.storage.filesystem.finder import FoundCrash, links_of_day, quarantined_crashes
from collectord.storage.filesystem.identity import adopt
from collectord.storage.filesystem.known import KnownStores
from tests.unit.cli.command import keep, raw_crash_of, run

DAY = "20160622"
NOON = datetime(2016, 6, 22, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it waited."""
    waited: list[float] = []
    monkeypatch.setattr("collectord.cli.audit.time.sleep", waited.append)
    return waited


def id_of(number: int, day: str = DAY) -> str:
    return f"{number:08x}-57c6-4e5d-b2cf-cabde2{day[2:]}"


@define
class Place:
    """A primary, a second store, a destination, and the journals beside them."""

    path: Path
    moves: bool = True
    ledger: str = ""
    directory: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.directory = self.path / "journals"
        self.directory.mkdir()
        for root in (self.primary, self.second, self.destination):
            Path(root).mkdir()

    @property
    def primary(self) -> str:
        return str(self.path / "primary")

    @property
    def second(self) -> str:
        return str(self.path / "second")

    @property
    def destination(self) -> str:
        return str(self.path / "destination")

    def config(self) -> Path:
        toml = "".join(f"[[storage]]\nroot = {json.dumps(root)}\n" for root in (self.primary, self.second))
        toml += f"[ledger]\ndirectory = {json.dumps(str(self.directory))}\n{self.ledger}\n"
        if self.moves:
            toml += '[[crashmover.destination]]\ntype = "fallback"\n[[crashmover.destination.of]]\n'
            toml += f'type = "filesystem"\nroot = {json.dumps(self.destination)}\n'
            toml += '[[crashmover.destination.of]]\ntype = "s3"\nbucket = "crashes"\n'
        file = self.path / "collectord.toml"
        file.write_text(toml)
        return file

    def keep_crash(self, number: int, root: str, *, new: bool = True) -> None:
        keep(Path(root), raw_crash_of(id_of(number), {}, rule="every"), {}, new=new)

    def put_aside(self, number: int, root: str, day: str = DAY) -> None:
        directory = Path(root, "quarantine", id_of(number, day))
        directory.mkdir(parents=True)
        (directory / "reason.txt").write_text("broken")

    def note(self, number: int, *steps: tuple[Step, str], at: float = NOON) -> None:
        with journal_path(self.directory, DAY).open("a") as file:
            for kind, where in steps:
                about: Mapping[str, str | int] = {"rule": "every"} if kind == "kept" else {}
                event = CrashEvent(at=at, crash_id=id_of(number), kind=kind, where=where, about=about)
                file.write(format_event(event))

    def note_line(self, line: Line) -> None:
        with journal_path(self.directory, DAY).open("ab") as file:
            file.write(line.encode())

    def audit(self, *args: str, day: str = DAY) -> Result:
        return run("audit", day, "--config", self.config(), *args)

    def output(self, *args: str) -> dict[str, Any]:
        result = self.audit("--json", *args)
        output: dict[str, Any] = json.loads(result.stdout)
        assert result.exit_code == (1 if output["fates"]["unaccounted"] or output["unlinked"] else 0)
        assert output["crashes"] == sum(output["fates"].values())
        return output

    def fates(self, *args: str) -> dict[str, int]:
        return {fate: count for fate, count in self.output(*args)["fates"].items() if count}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(autouse=True)
def _command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.commands, "audit", audit_command)


def everything(place: Place) -> None:
    """One of each fate."""
    primary, second, away = place.primary, place.second, place.destination
    place.note(1, ("kept", primary))
    place.keep_crash(1, primary)  # waits
    place.keep_crash(2, second)  # waits, and has no line yet
    place.note(3, ("kept", primary), ("moved", away), ("published", "queue"))
    place.keep_crash(3, primary, new=False)  # stays
    place.note(4, ("kept", primary), ("moved", away), ("published", "queue"), ("removed", primary))
    place.note(5, ("kept", primary), ("moved", away), ("moved", "s3"), ("removed", primary))
    place.keep_crash(5, away)
    place.note(6, ("kept", primary), ("quarantined", primary))
    place.put_aside(6, primary)
    place.put_aside(7, second)
    place.note(8, ("kept", primary), ("quarantined", primary))  # removed by hand
    place.note(9, ("kept", primary), ("moved", away))  # removed by hand
    place.note(10, ("kept", second))
    place.keep_crash(10, away)  # arrived
    place.note(11, ("kept", second))  # unaccounted


def test_the_fates(place: Place) -> None:
    everything(place)
    output = place.output()
    assert output["fates"] == {
        "waiting": 2,
        "stays": 1,
        "moved": 2,
        "quarantined": 2,
        "expired": 0,
        "erased": 0,
        "arrived": 1,
        "gone": 2,
        "unaccounted": 1,
    }
    assert output["crashes"] == 11
    assert output["kept"] == {place.primary: 7, place.second: 2}
    assert output["moved"] == {place.destination: 4, "s3": 1}
    assert output["published"] == {"queue": 2}
    assert output["removed"] == {place.primary: 2}
    assert output["at_destinations"] == {place.destination: 2}
    (lost,) = output["unaccounted"]
    assert (lost["crash_id"], lost["kept"], lost["rule"]) == (id_of(11), [place.second], "every")
    assert lost["lines"] == [{"time": time_of(NOON), "what": "kept", "where": place.second}]
    assert [crash["crash_id"] for crash in output["gone"]] == [id_of(8), id_of(9)]
    assert output["arrived"][0]["arrived_at"] == [place.destination]
    assert (output["damaged_lines"], output["lost_lines"], output["unclean_stops"]) == (0, 0, [])


def test_for_people(place: Place) -> None:
    everything(place)
    result = place.audit()
    assert result.exit_code == 1
    for fate, in_words in FATES.items():
        assert fate in result.stdout
        assert in_words in result.stdout
    assert f"11 crashes of {DAY}" in result.stdout
    (row,) = [line for line in result.stdout.splitlines() if id_of(11) in line]
    for known in ("unaccounted", time_of(NOON), "kept", place.second, "every"):
        assert known in row
    assert id_of(10) in result.stdout
    assert id_of(8) not in result.stdout


def test_only_what_is_unaccounted(place: Place) -> None:
    everything(place)
    result = place.audit("--unaccounted")
    assert (result.exit_code, result.stdout) == (1, f"{id_of(11)}\n")
    result = place.audit("--unaccounted", "--json")
    assert json.loads(result.stdout)["crash_id"] == id_of(11)


def test_what_expired_or_was_erased_is_accounted_for(place: Place) -> None:
    primary, away = place.primary, place.destination
    place.note(1, ("kept", primary), ("expired", primary))
    place.note(2, ("kept", primary), ("moved", away), ("expired", primary))  # it is at its destination
    place.note(3, ("kept", primary), ("erased", primary))
    place.note(4, ("kept", primary), ("moved", away), ("removed", primary), ("erased", away))
    place.note(5, ("kept", primary), ("expired", primary))
    place.keep_crash(5, primary)  # it came once more
    place.note(6, ("kept", place.second), ("moved", primary), ("removed", place.second), ("expired", primary))
    place.note(7, ("kept", primary), ("moved", away), ("erased", primary))  # from its store alone
    place.note(8, ("kept", primary), ("moved", f"{away} or s3"), ("removed", primary), ("erased", "s3"))
    assert place.fates() == {"expired": 2, "moved": 2, "erased": 3, "waiting": 1}
    output = place.output()
    assert output["expired"] == {primary: 4}
    assert output["erased"] == {primary: 2, away: 1, "s3": 1}


def test_nothing_is_unaccounted(place: Place) -> None:
    place.keep_crash(1, place.primary)
    assert place.fates() == {"waiting": 1}
    assert place.audit("--unaccounted").stdout == ""
    assert place.audit().exit_code == 0


def test_a_day_without_anything(place: Place) -> None:
    assert place.output()["crashes"] == 0
    shutil.rmtree(place.directory)
    assert place.output()["crashes"] == 0


@pytest.mark.parametrize("crash_files", ["raw crash", "link too"])
def test_removed_by_hand(place: Place, crash_files: str) -> None:
    for n in range(5):
        place.note(n, ("kept", place.primary))
        place.keep_crash(n, place.primary)
    assert place.fates() == {"waiting": 5}
    (raw_crash,) = Path(place.primary).glob(f"{DAY}/name/*/*/{id_of(3)}.json")
    raw_crash.unlink()
    if crash_files == "link too":
        next(Path(place.primary).glob(f"{DAY}/date/*/*/{id_of(3)}")).unlink()
    assert place.fates() == {"waiting": 4, "unaccounted": 1}


@pytest.mark.parametrize("second", [False, True])
def test_where_nothing_is_moved_what_is_new_stays(place: Place, second: bool) -> None:
    place.moves = False
    place.keep_crash(1, place.second if second else place.primary)  # that goes home
    assert place.fates() == {"waiting" if second else "stays": 1}


def test_a_crashmover_that_is_off(place: Place) -> None:
    place.ledger = "[crashmover]\nenabled = false"
    place.moves = False
    place.keep_crash(1, place.second)
    assert place.fates() == {"stays": 1}


def test_a_crash_that_went_home_is_looked_for_there(place: Place) -> None:
    place.note(1, ("kept", place.second), ("moved", place.primary), ("removed", place.second))
    assert place.fates() == {"unaccounted": 1}
    place.note(1, ("moved", "s3"), ("removed", place.primary))
    assert place.fates() == {"moved": 1}


def test_only_its_day(place: Place) -> None:
    other = "20160623"
    place.note(1, ("kept", place.primary), ("moved", "s3"), ("removed", place.primary))
    with journal_path(place.directory, DAY).open("a") as file:
        event = CrashEvent(at=NOON, crash_id=id_of(1, other), kind="kept", where=place.primary)
        file.write(format_event(event))
    place.put_aside(2, place.primary, other)
    output = place.output()
    assert (output["crashes"], output["damaged_lines"]) == (1, 1)


def test_compressed_and_other_lines(place: Place) -> None:
    journal = journal_path(place.directory, DAY)
    place.note(1, ("kept", place.primary))
    compressed_path(journal).write_bytes(gzip.compress(journal.read_bytes()))
    journal.unlink()
    assert place.fates() == {"unaccounted": 1}
    place.note(1, ("moved", "s3"), ("removed", place.primary))
    assert place.fates() == {"moved": 1}


# While the daemon runs.


def test_it_waits_only_where_something_seems_to_be_missing(place: Place, waits: list[float]) -> None:
    place.keep_crash(1, place.primary)
    place.note(2, ("kept", place.primary), ("moved", "s3"), ("removed", place.primary))
    assert place.fates() == {"waiting": 1, "moved": 1}
    assert waits == []
    place.note(3, ("kept", place.primary))
    assert place.fates() == {"waiting": 1, "moved": 1, "unaccounted": 1}
    assert waits == [1.0]


def test_a_duplicate_is_no_crash_of_its_own_and_moves_nothing(place: Place) -> None:
    place.keep_crash(1, place.primary)
    place.note(1, ("kept", place.primary), ("duplicate", ""))
    place.note(2, ("kept", place.primary), ("moved", "s3"), ("removed", place.primary), ("duplicate", ""))
    place.note(3, ("duplicate", ""))  # it was acknowledged, and no other line of it is left
    assert place.fates() == {"waiting": 1, "moved": 1, "unaccounted": 1}


def test_what_is_moved_meanwhile_is_not_unaccounted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.note(1, ("kept", place.primary))
    place.note(2, ("kept", place.second))
    place.note(3, ("kept", place.primary), ("moved", "s3"))

    def meanwhile(seconds: float) -> None:
        place.note(1, ("moved", "s3"), ("removed", place.primary))
        place.note(2, ("moved", place.primary), ("removed", place.second))
        place.keep_crash(2, place.primary)  # it went home while this was looking elsewhere
        place.note(3, ("removed", place.primary))

    monkeypatch.setattr("collectord.cli.audit.time.sleep", meanwhile)
    assert place.fates() == {"moved": 2, "waiting": 1}


# Damage, and unclean stops.


def test_damage_is_counted(place: Place) -> None:
    place.note(1, ("kept", place.primary))
    with journal_path(place.directory, DAY).open("ab") as file:
        file.write(bytes(4096) + b"\x1b[31mgarbage\n" + b"cut of")
    place.note_line(Line(time_of(NOON), "lost", "70"))
    place.keep_crash(1, place.primary)
    output = place.output()
    assert (output["damaged_lines"], output["lost_lines"]) == (2, 0)  # it was added to what was cut off
    place.note_line(Line(time_of(NOON), "lost", "7"))
    place.note_line(Line(time_of(NOON), "lost", "7"))  # a line may be there twice
    place.note_line(Line(time_of(NOON), "lost", "many"))
    assert place.output()["lost_lines"] == 7
    shown = place.audit().stdout
    assert "damaged lines" in shown
    assert "lost lines" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("at", "explained"), [(NOON - 600, False), (NOON - 0.5, True), (NOON + 10, True), (NOON + 31, False)]
)
def test_lines_that_were_lost_by_an_unclean_stop(place: Place, at: float, explained: bool) -> None:
    place.note_line(Line(time_of(NOON + 30), "unclean", "host-7-ab", time_of(NOON)))
    place.note_line(Line(time_of(NOON + 30), "unclean", "host-7-ab", "garbage"))
    place.note(1, ("kept", place.primary), at=at)
    place.note(2, ("kept", place.primary), at=at)
    place.keep_crash(2, place.destination)
    output = place.output()
    assert output["unclean_stops"] == [
        {"process": "host-7-ab", "after": time_of(NOON), "before": time_of(NOON + 30)},
    ]
    assert [crash["crash_id"] for crash in output["unaccounted"]] == [id_of(1)]  # it may be more than a line
    assert [crash["crash_id"] for crash in output["arrived"]] == [id_of(2)]
    assert [crash["in_doubt"] for crash in (*output["unaccounted"], *output["arrived"])] == [explained] * 2
    shown = [line for line in place.audit().stdout.splitlines() if "lines were lost by an unclean stop" in line]
    assert [id_of(2) in line for line in shown] == [True] * explained


def test_an_unclean_stop_after_which_nobody_started(place: Place) -> None:
    running = place.directory / "host-7-ab.running"
    running.touch()
    os.utime(running, (NOON, NOON))
    place.note(1, ("kept", place.primary), at=NOON + 3)
    place.keep_crash(1, place.destination)
    output = place.output()
    assert output["unclean_stops"] == [{"process": "host-7-ab", "after": time_of(NOON), "before": "now"}]
    assert output["arrived"][0]["in_doubt"]
    assert running.exists()


# Rebuilding.


def test_a_lost_journal_is_made_anew(place: Place) -> None:
    everything(place)
    before = place.fates()
    journal_path(place.directory, DAY).unlink()
    output = place.output("--rebuild")
    assert output["rebuilt"] == {"read": 0, "added": 5}
    assert {fate: count for fate, count in output["fates"].items() if count} == {
        "waiting": before["waiting"],
        "stays": before["stays"],
        "quarantined": before["quarantined"],
    }
    kept = [line for line in Journal(place.directory, DAY) if line.subject == id_of(1)]
    assert kept == [Line("2016-06-22T15:19:49.123Z", "kept", id_of(1), place.primary, "every")]
    assert output["kept"] == {place.primary: 2, place.second: 1}
    assert output["quarantined"] == {place.primary: 1, place.second: 1}


def test_a_damaged_journal_is_made_anew(place: Place) -> None:
    everything(place)
    journal = journal_path(place.directory, DAY)
    before = place.output()
    compressed_path(journal).write_bytes(gzip.compress(journal.read_bytes()))
    place.note_line(Line(time_of(NOON), "unclean", "host-7-ab", time_of(NOON)))
    with journal.open("ab") as file:
        file.write(bytes(10_000) + b"\xffgarbage\n" * 7 + b"cut of")
    damaged = place.output()
    assert damaged["damaged_lines"] > 7
    output = place.output("--rebuild")
    assert output["fates"] == before["fates"] == damaged["fates"]
    assert output["damaged_lines"] == 0
    assert len(output["unclean_stops"]) == 1
    assert output["rebuilt"]["added"] == 2
    assert not compressed_path(journal).exists()
    assert place.output("--rebuild")["rebuilt"]["added"] == 0
    assert "The journal was written anew" in place.audit("--rebuild").stdout


def test_a_raw_crash_that_says_nothing_is_noted_too(place: Place) -> None:
    for n, content in enumerate(["no JSON", "[]", "{}", '{"submitted_timestamp": 7}', '{"submitted_timestamp": "7"}']):
        place.keep_crash(n, place.primary)
        (raw_crash,) = Path(place.primary).glob(f"{DAY}/name/*/*/{id_of(n)}.json")
        raw_crash.write_text(content)
        os.utime(raw_crash, (NOON, NOON))
    assert place.output("--rebuild")["rebuilt"]["added"] == 5
    assert {line.time for line in Journal(place.directory, DAY)} == {time_of(NOON)}


def test_rebuilding_that_fails_leaves_the_journal_as_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    everything(place)
    before = journal_path(place.directory, DAY).read_bytes()

    def fail(fd: int) -> None:
        raise OSError(28, "full", "somewhere")

    monkeypatch.setattr(os, "fsync", fail)
    result = place.audit("--rebuild")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "full" in result.stderr
    assert journal_path(place.directory, DAY).read_bytes() == before


# What can't be.


def test_a_store_that_is_not_there(place: Place) -> None:
    """Its crashes are not unaccounted for: nobody can say."""
    place.note(1, ("kept", place.second))
    before = journal_path(place.directory, DAY).stat()
    shutil.rmtree(place.second)
    for args in ([], ["--rebuild"], ["--json"]):
        result = place.audit(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert place.second in result.stderr
    assert os.path.samestat(journal_path(place.directory, DAY).stat(), before)


def test_a_destination_that_is_not_there(place: Place) -> None:
    shutil.rmtree(place.destination)
    assert place.output()["at_destinations"] == {place.destination: None}
    assert "not there" in place.audit().stdout


def test_a_different_store_in_the_place_of_a_destination(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies there, it is not where the crashes of the daemon arrive."""
    monkeypatch.setenv("COLLECTORD_STATE__DIRECTORY", str(place.path / "state"))
    adopt(place.destination, KnownStores(str(place.path / "state")))
    os.rename(place.destination, f"{place.destination}-away")
    os.mkdir(place.destination)
    place.note(1, ("kept", place.primary))
    place.keep_crash(1, place.destination)
    output = place.output()
    assert output["at_destinations"] == {place.destination: None}
    assert [crash["crash_id"] for crash in output["unaccounted"]] == [id_of(1)]


def test_a_store_that_the_settings_do_not_know(place: Place) -> None:
    place.note(1, ("kept", "/mnt/removed"))
    assert "/mnt/removed: the settings have no such store" in place.audit().stdout


def test_without_a_journal_there_is_no_audit(place: Place) -> None:
    place.ledger = "enabled = false"
    result = place.audit()
    assert result.exit_code == 2
    assert "enabled = false" in result.stderr


def test_a_journal_that_can_t_be_read(place: Place) -> None:
    journal_path(place.directory, DAY).mkdir()
    assert place.audit().exit_code == 2


@pytest.mark.parametrize("day", ["2016-06-22", "today", "yesterday"])
def test_days(place: Place, day: str) -> None:
    assert place.audit(day=day).exit_code == 0


@pytest.mark.parametrize("day", ["2016-06-31", "soon", ""])
def test_texts_that_are_no_days(place: Place, day: str) -> None:
    assert place.audit(day=day).exit_code == 2


def test_control_characters_do_not_reach_the_terminal(place: Place) -> None:
    place.note(1, ("kept", "/a\x1b[31m\x9b\r\u202e"), ("published", "\x1b]0;title\x07"))
    shown = place.audit().stdout
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_many_that_are_missing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_MAX_CRASHES_WITH_LINES", 120)
    for n in range(150):
        place.note(n, ("kept", place.primary))
    result = place.audit()
    assert sum("-57c6-" in line for line in result.stdout.splitlines()) == 100
    assert "50 more" in result.stderr
    output = place.output()
    assert len(output["unaccounted"]) == 150
    assert sum(bool(crash["lines"]) for crash in output["unaccounted"]) == 120


def test_the_journals_of_the_settings_without_a_directory(place: Place) -> None:
    place.directory = Path(place.primary) / "ledger"
    place.directory.mkdir()
    place.note(1, ("kept", place.primary))
    config = place.config()
    config.write_text(config.read_text().replace(f"directory = {json.dumps(str(place.directory))}", ""))
    result = run("audit", DAY, "--config", config, "--unaccounted")
    assert result.stdout == f"{id_of(1)}\n"


def test_the_journals_of_a_host_that_shares_a_store(place: Place, tmp_path: Path) -> None:
    """It has moved two of ours and one of its own out of the store that both have, and keeps one in its own."""
    away = place.destination
    place.note(1, ("kept", place.second))
    place.note(2, ("kept", place.second))
    place.note(3, ("kept", place.second))
    other = tmp_path / "other"
    other.mkdir()
    own, place.directory = place.directory, other
    place.note(1, ("moved", away), ("removed", place.second))
    place.note(2, ("moved", away), ("removed", place.second))
    place.note(4, ("kept", place.second), ("moved", away), ("removed", place.second))
    place.note(5, ("kept", "/private"))
    place.note_line(Line(time_of(NOON), "start", "other-1-ab"))
    place.directory = own
    assert place.fates() == {"unaccounted": 3}
    assert place.fates("--ledger", str(other)) == {"moved": 3, "unaccounted": 1}
    assert place.output("--ledger", str(other))["unaccounted"][0]["crash_id"] == id_of(3)
    assert place.audit("--ledger", str(tmp_path / "nowhere")).exit_code == 2


def test_what_another_host_has_in_its_own_primary_is_not_looked_for_here(place: Place, tmp_path: Path) -> None:
    """Its primary has the same path as ours, and is another directory."""
    other = tmp_path / "other"
    other.mkdir()
    own, place.directory = place.directory, other
    place.note(1, ("kept", place.primary))
    place.note(2, ("kept", place.second))
    place.directory = own
    assert place.fates("--ledger", str(other)) == {"unaccounted": 1}
    assert place.output("--ledger", str(other))["unaccounted"][0]["crash_id"] == id_of(2)


def test_what_another_host_has_moved_to_its_primary_of_the_same_path_is_there(place: Place, tmp_path: Path) -> None:
    """Without a destination each host moves what the store that both have took to its own primary."""
    place.moves = False
    other = tmp_path / "other"
    other.mkdir()
    for number in range(1, 6):
        place.note(number, ("kept", place.second))
    own, place.directory = place.directory, other
    for number in range(1, 5):
        place.note(number, ("moved", place.primary), ("removed", place.second))
    place.note(2, ("expired", place.primary))
    place.note(3, ("quarantined", place.primary))
    place.note(4, ("erased", place.primary))
    place.directory = own
    assert place.fates("--ledger", str(other)) == {"moved": 3, "erased": 1, "unaccounted": 1}
    theirs = f"{place.primary} of {other}"
    assert place.output("--ledger", str(other))["moved"] == {theirs: 4}
    place.keep_crash(5, place.second)
    assert "unaccounted" not in place.fates("--ledger", str(other))


def test_a_kill_on_another_host_that_shares_a_store_may_have_cost_its_lines(place: Place, tmp_path: Path) -> None:
    """It has moved one of ours, and its line is lost."""
    other = tmp_path / "other"
    other.mkdir()
    place.note(1, ("kept", place.second))
    place.note(2, ("kept", place.second), at=NOON + 100)
    own, place.directory = place.directory, other
    place.note_line(Line(time_of(NOON + 10), "unclean", "other-1-ab", time_of(NOON)))
    place.note_line(Line(time_of(NOON + 20), "lost", "7"))
    place.directory = own
    output = place.output("--ledger", str(other))
    assert [crash["in_doubt"] for crash in output["unaccounted"]] == [True, False]
    assert output["lost_lines"] == 7
    assert [stop["process"] for stop in output["unclean_stops"]] == ["other-1-ab"]


def test_a_crash_without_a_link_is_found_unless_it_was_moved(place: Place) -> None:
    """As where a backup was copied back without its links."""
    place.note(1, ("kept", place.primary))
    place.keep_crash(1, place.primary, new=False)
    place.keep_crash(2, place.second, new=False)  # of another machine: there is no line
    place.note(3, ("kept", place.primary), ("moved", place.destination))
    place.keep_crash(3, place.primary, new=False)  # keep = true
    place.note(4, ("kept", place.second), ("moved", place.primary), ("removed", place.second))
    place.keep_crash(4, place.primary, new=False)  # went home, and nowhere else
    place.note(5, ("kept", place.primary))
    place.keep_crash(5, place.primary)
    output = place.output()
    assert output["unlinked"] == [id_of(1), id_of(2), id_of(4)]
    assert output["fates"]["stays"] == 4
    for_people = place.audit()
    assert for_people.exit_code == 1
    assert f"3 crashes, such as {id_of(1)}" in for_people.stdout
    assert place.audit("--unlinked").stdout.split() == output["unlinked"]


def test_a_crash_that_came_while_it_looked_is_not_without_a_link(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.keep_crash(1, place.primary)
    monkeypatch.setattr(scan, "links_of_day", lambda root, day: [])
    assert place.output()["unlinked"] == []


def test_a_link_without_a_crash(place: Place) -> None:
    for number in (1, 2, 3):
        place.keep_crash(number, place.primary)
    for number in (1, 3):
        [raw_crash] = Path(place.primary).glob(f"*/name/*/*/{id_of(number)}.json")
        raw_crash.unlink()
    place.put_aside(3, place.primary)
    assert place.output()["dangling"] == [id_of(1)]
    assert place.audit("--dangling").stdout == f"{id_of(1)}\n"
    assert f"1 link without a crash (--dangling), such as that of {id_of(1)}" in place.audit().stdout


def test_each_link_without_a_crash_is_looked_at(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two goes with its crash while the audit looks, so the other one is still there alone."""
    for root in (place.primary, place.second):
        place.keep_crash(1, root)
        [raw_crash] = Path(root).glob(f"*/name/*/*/{id_of(1)}.json")
        raw_crash.unlink()

    def removed(root: str) -> Iterator[FoundCrash]:
        for link in Path(place.second).glob(f"*/date/*/*/{id_of(1)}"):
            link.unlink()
        return quarantined_crashes(root)

    monkeypatch.setattr(scan, "quarantined_crashes", removed)
    with monkeypatch.context() as listed:
        links = {root: links_of_day(root, DAY) for root in (place.primary, place.second)}
        listed.setattr(scan, "links_of_day", lambda root, day: links[root])
        assert place.output()["dangling"] == [id_of(1)]


@pytest.mark.parametrize("branch", ["name", "date"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(PermissionError(errno.EACCES, "Permission denied"), 2, id="can not be read"),
        pytest.param(FileNotFoundError(errno.ENOENT, "No such file"), 1, id="removed meanwhile"),
    ],
)
def test_a_directory_of_a_store_that_is_not_listed(
    place: Place, branch: str, error: OSError, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that can't be read is not taken for an empty one."""
    place.note(1, ("kept", place.primary))
    place.keep_crash(1, place.primary)
    listing = os.scandir

    def failing(path: Any) -> Any:
        if f"/{DAY}/{branch}/" in str(path):
            raise error
        return listing(path)

    monkeypatch.setattr(os, "scandir", failing)
    result = place.audit("--json")
    if status == 2:
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Permission denied" in result.stderr
    else:
        assert json.loads(result.stdout)["fates"]["waiting"] == 1  # the second look finds it


@pytest.mark.parametrize("which", ["primary", "second"])
def test_a_user_who_can_t_see_the_store_is_told(place: Place, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file system is not mounted: what is there now is another directory."""
    monkeypatch.setenv("COLLECTORD_STATE__DIRECTORY", str(place.path / "state"))
    everything(place)
    root = getattr(place, which)
    adopt(root, KnownStores(str(place.path / "state")))
    assert place.audit().exit_code == 1
    os.rename(root, f"{root}-away")
    os.mkdir(root)
    for args in ([], ["--json"], ["--unaccounted"]):
        result = place.audit(*args)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "this is not the store that was here before" in result.stderr
        assert f"nobody can say whether the crashes of {root} are there" in result.stderr


def test_a_store_that_no_daemon_has_marked(place: Place) -> None:
    adopt(place.primary, KnownStores(str(place.path / "state")))
    shown = place.audit().stdout
    assert f"{place.second}: no daemon has used it" in shown
    assert f"{place.primary}: no daemon" not in shown
