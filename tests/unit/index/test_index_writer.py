"""
The file of the index: made when it is missing or damaged, filled from the journal, and bounded.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import define, evolve, field

from collectord.index.byhand import add_to_index, empty_index, erase_from_index
from collectord.index.database import open_to_read
from collectord.index.gap import IndexSources, StoredCrash
from collectord.index.search import crash_by_id, last_crashes
from collectord.index.tally import Tally
from collectord.index.top import fingerprint_seen
from collectord.index.values import IndexedCrash, SeenKept
from collectord.index.writer import IndexFile, IndexLimits, index_path, remove_index
from collectord.model import CrashEvent, Step

NOW = 1466590000.0
DAY = 86400.0


def crash_id(number: int) -> str:
    return f"{number:08x}-57c6-4e5d-b2cf-cabde2160622"


def event(number: int, kind: Step = "kept", at: float = NOW, where: str = "/a") -> CrashEvent:
    about = {"product": "App", "fingerprint": "1:a", "crash_place": "there"} if kind == "kept" else {}
    return CrashEvent(at=at, crash_id=crash_id(number), kind=kind, where=where, about=about)


@define
class Journal:
    """What a journal says."""

    events: Sequence[CrashEvent] = ()
    asked: list[float] = field(factory=list)

    def since(self, at: float) -> Iterator[CrashEvent]:
        self.asked.append(at)
        return iter([each for each in self.events if each.at >= at])


@define
class Rig:
    """An index in a directory of its own."""

    directory: str
    journal: Journal = field(factory=Journal)
    stored: dict[str, Sequence[CrashEvent]] = field(factory=dict)
    walked: list[float] = field(factory=list)
    limits: IndexLimits = field(factory=lambda: IndexLimits(keep_s=30 * DAY, max_bytes=10_000_000))

    def open(self) -> IndexFile:
        return IndexFile(self.directory, ["/a"], self.limits, IndexSources(self.journal.since, self._stored))

    def _stored(self, at: float) -> Iterator[StoredCrash | None]:
        self.walked.append(at)
        for crash_id, told in self.stored.items():
            yield StoredCrash(crash_id, lambda told=told: told)  # type: ignore[misc]
            yield None

    def last(self) -> list[IndexedCrash]:
        database = open_to_read(index_path(self.directory))
        try:
            return last_crashes(database, 100_000)
        finally:
            database.close()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(str(tmp_path / "state" / "index"))


def fill(file: IndexFile, now: float = NOW) -> int:
    """Fill the gap, and get in how many steps."""
    steps = 0
    while file.tidy(now):
        steps += 1
    return steps


def test_nobody_else_may_read_it(rig: Rig) -> None:
    rig.open().write([event(1)], [], None, NOW)
    assert os.stat(index_path(rig.directory)).st_mode & 0o777 == 0o600
    assert os.stat(rig.directory).st_mode & 0o777 == 0o700
    assert [crash.crash_id for crash in rig.last()] == [crash_id(1)]


def test_a_new_index_is_filled_from_the_journal(rig: Rig) -> None:
    rig.journal.events = [
        *(event(number, at=NOW - number) for number in range(1000)),
        event(3, "moved", NOW, "s3"),
        event(2000, at=NOW - 40 * DAY),
    ]
    file = rig.open()
    file.write([], [], None, NOW)
    assert fill(file) == 6
    assert rig.journal.asked == [NOW - 30 * DAY]
    assert len(rig.last()) == 1000
    assert [crash.crash_id for crash in rig.last() if crash.state == "moved"] == [crash_id(3)]
    database = open_to_read(index_path(rig.directory))
    seen = fingerprint_seen(database, NOW, "1:a")
    database.close()
    assert seen is not None
    assert (seen.day, seen.last_kept_id, seen.first_seen) == (SeenKept(1000, 1000), crash_id(0), NOW - 999)


def test_after_a_restart_only_what_is_missing_is_read(rig: Rig) -> None:
    first = rig.open()
    first.write([event(1)], [], None, NOW)
    fill(first)
    first.write([event(2, at=NOW + 50)], [], None, NOW + 50)
    first.close()
    rig.journal.events = [event(1), event(2, at=NOW + 50), event(3, at=NOW + 55)]
    second = rig.open()
    second.write([], [], None, NOW + 60)
    fill(second, NOW + 60)
    assert rig.journal.asked[-1] == NOW - 10
    assert [crash.crash_id for crash in rig.last()] == [crash_id(3), crash_id(2), crash_id(1)]


def test_a_gap_that_was_not_filled_is_filled_after_the_next_start(rig: Rig) -> None:
    rig.journal.events = [event(number, at=NOW - number) for number in range(1000)]
    first = rig.open()
    first.write([], [], None, NOW)
    first.tidy(NOW)
    first.close()
    second = rig.open()
    second.write([], [], None, NOW + 10)
    fill(second, NOW + 10)
    assert rig.journal.asked[0] <= rig.journal.asked[-1] <= NOW - 30 * DAY + 10
    assert len(rig.last()) == 1000


def test_events_that_were_given_up_come_from_the_journal(rig: Rig) -> None:
    file = rig.open()
    file.write([event(1)], [], None, NOW)
    fill(file)
    rig.journal.events = [event(2, at=NOW + 5)]
    file.write([event(3, at=NOW + 9)], [], NOW + 4, NOW + 10)
    fill(file, NOW + 10)
    assert rig.journal.asked[-1] == NOW + 4
    assert len(rig.last()) == 3


@pytest.mark.parametrize("damage", [b"no database, but a text\n" * 500, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_file_is_made_anew(rig: Rig, damage: bytes) -> None:
    file = rig.open()
    file.write([event(1)], [], None, NOW)
    file.close()
    Path(index_path(rig.directory)).write_bytes(damage)
    rig.journal.events = [event(1)]
    file = rig.open()
    with pytest.raises(sqlite3.DatabaseError):
        file.write([event(2)], [], None, NOW)
    assert file.was_made != ""
    file.write([event(2)], [], None, NOW)
    fill(file)
    assert sorted(crash.crash_id for crash in rig.last()) == [crash_id(1), crash_id(2)]


def test_a_file_that_goes_bad_while_it_is_used_is_made_anew(rig: Rig) -> None:
    file = rig.open()
    file.write([event(number) for number in range(1000)], [], None, NOW)
    file.close()
    path = Path(index_path(rig.directory))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(sqlite3.DatabaseError):
        file.write([event(20_000)], [], None, NOW)
    file.write([event(20_000)], [], None, NOW)
    assert [crash.crash_id for crash in rig.last()] == [crash_id(20_000)]


def test_a_directory_that_can_not_be_made_is_an_error(rig: Rig) -> None:
    Path(rig.directory).parent.parent.joinpath("state").write_text("a file")
    with pytest.raises(OSError, match="state"):
        rig.open().write([event(1)], [], None, NOW)


def test_old_crashes_leave_it(rig: Rig) -> None:
    file = rig.open()
    file.write([event(1), event(2, at=NOW + 20 * DAY)], [], None, NOW + 20 * DAY)
    fill(file, NOW + 20 * DAY)
    file.tidy(NOW + 31 * DAY)
    assert [crash.crash_id for crash in rig.last()] == [crash_id(2)]


def test_its_size_is_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    rig = Rig(str(tmp_path / "index"), limits=IndexLimits(keep_s=30 * DAY, max_bytes=140_000))
    file = rig.open()
    for batch in range(6):
        events = [event(number, at=NOW + number / 100) for number in range(batch * 500, batch * 500 + 500)]
        file.write(events, [], None, NOW + 100 * batch)
        fill(file, NOW + 100 * batch)
    crashes = rig.last()
    assert 0 < len(crashes) < 2500
    assert crashes[0].crash_id == crash_id(2999)
    assert os.stat(index_path(rig.directory)).st_size < 600_000


def test_a_crash_is_erased_by_hand_while_a_daemon_writes(rig: Rig) -> None:
    file = rig.open()
    about: dict[str, str | int] = {"product": "Mine", "annotations": "\nName=Me\n"}
    of_person = CrashEvent(at=NOW, crash_id=crash_id(1), kind="kept", where="/a", about=about)
    file.write([of_person, event(2)], [], None, NOW)
    erase_from_index(rig.directory, [event(1, "erased", NOW + 5)], NOW + 5)
    content = b"".join(path.read_bytes() for path in Path(rig.directory).iterdir())
    assert (b"Mine" in content, b"Name=Me" in content, b"App" in content) == (False, False, True)
    again = evolve(of_person, crash_id=crash_id(3))
    file.write([event(1, "moved", NOW + 6, "s3"), again], [], None, NOW + 6)
    found = {crash.crash_id: crash for crash in rig.last()}
    erased = found[crash_id(1)]
    assert (erased.state, erased.product, erased.moved_to) == ("erased", "", ())
    assert [found[crash_id(number)].product for number in (2, 3)] == ["App", "Mine"]


def test_what_is_done_by_hand_is_known_while_a_daemon_writes(rig: Rig) -> None:
    file = rig.open()
    put = [event(number, "quarantined", NOW + 1) for number in (2, 3)]
    file.write([event(1), event(2), event(3), *put], [], None, NOW + 1)
    done = [event(1, "expired", NOW + 5), event(2, "moved", NOW + 5), event(3, "expired", NOW + 5)]
    add_to_index(rig.directory, ["/a"], done, NOW + 5)
    states = {crash.crash_id: (crash.state, crash.is_here, crash.why) for crash in rig.last()}
    assert states == {
        crash_id(1): ("expired", False, ""),
        crash_id(2): ("kept", True, ""),
        crash_id(3): ("expired", False, ""),
    }
    add_to_index(f"{rig.directory}/none", ["/a"], done, NOW + 5)


def test_what_is_known_of_a_fingerprint_is_erased_with_its_only_crash(rig: Rig) -> None:
    file = rig.open()
    for number, place in ((1, "mine.dll"), (2, "ours.dll"), (3, "ours.dll")):
        about: dict[str, str | int] = {"fingerprint": f"1:{place}", "crash_place": place}
        file.write([evolve(event(number), about=about)], [_tally(number, place)], None, NOW)
    erase_from_index(rig.directory, [event(number, "erased", NOW + 5) for number in (1, 2)], NOW + 5)
    content = b"".join(path.read_bytes() for path in Path(rig.directory).iterdir())
    assert (b"mine.dll" in content, b"ours.dll" in content) == (False, True)


def _tally(number: int, place: str) -> Tally:
    facts = [f"1:{place}", place, "", "", "", "", NOW, NOW, crash_id(number), 0.0, ""]
    return [[f"1:{place}", "App", "1.0", 1, 1]], [facts]


def test_a_crash_that_others_have_received_is_found_by_its_id(rig: Rig) -> None:
    rig.open().write([event(1, at=NOW + 5 * DAY)], [], None, NOW + 5 * DAY)
    database = open_to_read(index_path(rig.directory))
    found, unknown = crash_by_id(database, crash_id(1)), crash_by_id(database, crash_id(2))
    database.close()
    assert found is not None
    assert (found.at, unknown) == (NOW + 5 * DAY, None)


# ——— what happens to crashes that were kept long ago ———


@pytest.fixture
def reopened(rig: Rig) -> IndexFile:
    """An index that has one crash, which it can't remember any more."""
    stop(rig, event(1))
    file = rig.open()
    file.write([], [], None, NOW + 60)
    fill(file, NOW + 60)
    return file


def test_it_is_written_at_a_stop(rig: Rig, reopened: IndexFile) -> None:
    reopened.write([event(1, "moved", NOW + 61, "s3")], [], None, NOW + 61)
    assert [crash.state for crash in rig.last()] == ["kept"]
    reopened.close()
    assert [crash.state for crash in rig.last()] == ["moved"]


def test_after_a_kill_it_comes_from_the_journal(rig: Rig, reopened: IndexFile) -> None:
    rig.journal.events = [event(1, "moved", NOW + 61, "s3")]
    reopened.write(rig.journal.events, [], None, NOW + 61)
    reopened.write([], [], None, NOW + 89)
    again = rig.open()
    again.write([], [], None, NOW + 200)
    fill(again, NOW + 200)
    assert [crash.state for crash in rig.last()] == ["moved"]


def test_it_is_written_before_a_gap_is_filled(rig: Rig, reopened: IndexFile) -> None:
    rig.journal.events = [event(1, "moved", NOW + 61, "s3")]
    reopened.write([], [], NOW + 60.5, NOW + 62)
    fill(reopened, NOW + 62)
    assert [crash.state for crash in rig.last()] == ["moved"]


# ——— how it is opened ———


def test_its_file_is_opened_without_the_loss_of_locks(rig: Rig) -> None:
    stop(rig, event(1))
    reader = open_to_read(index_path(rig.directory))
    reader.execute("SELECT * FROM meta").fetchall()
    assert locks(rig) > 0
    file = rig.open()
    file.write([], [], None, NOW)
    assert locks(rig) > 0
    reader.close()


def locks(rig: Rig) -> int:
    """Return how many locks there are on the file."""
    end = f":{os.stat(index_path(rig.directory)).st_ino}"
    return sum(line.split()[-3].endswith(end) for line in Path("/proc/locks").read_text().splitlines())


# ——— what the journal does not have ———


def stop(rig: Rig, *events: CrashEvent) -> None:
    """A daemon has written these, and has ended as it should."""
    file = rig.open()
    file.write(events, [], None, NOW)
    fill(file)
    file.close()


def test_crashes_in_stores_of_which_the_journal_has_no_line(rig: Rig) -> None:
    rig.journal.events = [event(1), event(2, at=NOW - 5), event(2, "moved", NOW - 4, "s3")]
    quarantined = [event(4, at=NOW - 7), event(4, "quarantined", NOW - 7)]
    rig.stored = {
        crash_id(1): [event(1, at=NOW - 0.5)],
        crash_id(3): [event(3, at=NOW - 6)],
        crash_id(4): quarantined,
        crash_id(5): [event(5, at=NOW + 1)],  # whoever keeps it tells of it
        crash_id(6): [event(6, at=NOW - 31 * DAY)],
    }
    file = rig.open()
    file.write([], [], None, NOW)
    fill(file)
    assert [(crash.crash_id, crash.state, crash.at) for crash in rig.last()] == [
        (crash_id(1), "kept", NOW),
        (crash_id(2), "moved", NOW - 5),
        (crash_id(3), "kept", NOW - 6),
        (crash_id(4), "quarantined", NOW - 7),
    ]
    assert file.filled is not None
    assert (file.filled.events, file.filled.stored, file.filled.is_of_all) == (3, 3, True)
    assert rig.walked == [NOW - 30 * DAY]


def test_what_happens_while_a_gap_is_filled_for_long_is_known_of_crashes_that_are_read_last(rig: Rig) -> None:
    """Also what the journal says of crashes of which it has lost the line that they were kept."""
    rig.journal.events = [event(number, "published", NOW - 80, "queue") for number in (1, 2)]
    rig.stored = {crash_id(number): [event(number, at=NOW - 90)] for number in range(2)}
    file = rig.open()
    file.write([], [], None, NOW)
    assert file.tidy(NOW)
    for seconds in range(100):
        file.write([event(1, "moved", NOW, "s3")] if not seconds else [], [], None, NOW + seconds)
    fill(file, NOW + 100)
    assert [(crash.crash_id, crash.state, crash.published_to) for crash in rig.last()] == [
        (crash_id(1), "moved", ("queue",)),
        (crash_id(0), "kept", ()),
    ]
    file.write([], [], None, NOW + 200)
    assert file._rows is not None
    assert (file._rows._postponed, file._rows._held) == ({}, {})


def test_what_waits_for_the_end_of_a_gap_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.index.rows._HELD", 2)
    rig.stored = {crash_id(number): [event(number, at=NOW - 90)] for number in range(5)}
    file = rig.open()
    file.write([event(number, "moved", NOW, "s3") for number in range(5)], [], None, NOW)
    for seconds in range(60):
        file.write([], [], None, NOW + seconds)
    fill(file, NOW + 60)
    assert [crash.crash_id for crash in rig.last() if crash.state == "moved"] == [crash_id(4), crash_id(3)]


def test_what_can_not_be_read_is_left_out(rig: Rig) -> None:
    class Unreadable(list[CrashEvent]):
        def __getitem__(self, number: object) -> CrashEvent:  # type: ignore[override]
            raise ValueError("no JSON")

    rig.stored = {crash_id(1): Unreadable(), crash_id(2): [event(2)]}
    file = rig.open()
    file.write([], [], None, NOW + 1)
    fill(file, NOW + 1)
    assert [crash.crash_id for crash in rig.last()] == [crash_id(2)]


def test_stores_are_looked_through_after_a_kill_and_not_after_a_stop(rig: Rig) -> None:
    stop(rig, event(1))
    rig.walked.clear()
    rig.stored = {crash_id(2): [event(2, at=NOW + 1)]}
    file = rig.open()
    file.write([], [], None, NOW + 60)
    fill(file, NOW + 60)
    assert rig.walked == []
    killed = rig.open()
    killed.write([], [], None, NOW + 120)
    fill(killed, NOW + 120)
    assert rig.walked == [NOW]
    rig.stored = {crash_id(3): [event(3, at=NOW + 115)]}
    killed = rig.open()
    killed.write([], [], None, NOW + 180)
    fill(killed, NOW + 180)
    assert [crash.crash_id for crash in rig.last()] == [crash_id(number) for number in (3, 2, 1)]


def test_a_journal_that_can_not_be_read_is_read_again(rig: Rig) -> None:
    def broken(at: float) -> Iterator[CrashEvent]:
        yield event(1)
        raise OSError("no disk")

    rig.journal.events = [event(1), event(2)]
    file = rig.open()
    file.sources = IndexSources(broken)
    file.write([], [], None, NOW)
    with pytest.raises(OSError, match="no disk"):
        fill(file)
    file.sources = IndexSources(rig.journal.since)
    fill(file)
    assert len(rig.last()) == 2


def test_a_file_that_was_removed_is_made_again_at_once(rig: Rig) -> None:
    file = rig.open()
    file.write([event(1)], [], None, NOW)
    fill(file)
    rig.journal.events = [event(1)]
    remove_index(rig.directory)
    file.write([event(2)], [], None, NOW + 1)
    assert file.was_made != ""
    fill(file, NOW + 1)
    assert len(rig.last()) == 2


def test_damage_that_only_a_question_meets_is_looked_for(rig: Rig) -> None:
    file = rig.open()
    file.write([event(number) for number in range(1500)], [], None, NOW)
    fill(file)
    file.doubt()
    assert not file.tidy(NOW)
    assert len(rig.last()) == 1500
    file.close()
    with open(index_path(rig.directory), "r+b") as damaged:
        damaged.seek(20 * 4096)
        damaged.write(b"\x55" * 8 * 4096)
    rig.journal.events = [event(7)]
    file.write([], [], None, NOW)
    file.doubt()
    with pytest.raises(sqlite3.DatabaseError):
        file.tidy(NOW)
    file.write([], [], None, NOW)
    fill(file)
    assert [crash.crash_id for crash in rig.last()] == [crash_id(7)]


def test_all_of_it_is_read_again_by_hand_while_a_daemon_writes(rig: Rig) -> None:
    file = rig.open()
    tally: Tally = ([["1:a", "App", "", 9, 1]], [["1:a", "there", "", "", "", "", NOW, NOW, crash_id(1), 0.0, ""]])
    file.write([event(1), event(9)], [tally], None, NOW)
    fill(file)
    rig.journal.events = [event(1)]
    rig.stored = {crash_id(2): [event(2)]}
    assert empty_index(rig.directory)
    assert not empty_index(rig.directory)
    assert rig.last() == []
    file.write([event(1, "moved", NOW + 1, "s3")], [], None, NOW + 1)
    fill(file, NOW + 1)
    assert sorted(crash.crash_id for crash in rig.last()) == [crash_id(1), crash_id(2)]
    database = open_to_read(index_path(rig.directory))
    seen = fingerprint_seen(database, NOW, "1:a")
    database.close()
    assert seen is not None
    assert seen.day == SeenKept(9, 1)
    file.write([], [], NOW - 5, NOW + 2)
    assert file.tidy(NOW + 2)  # a short gap is being filled
    assert empty_index(rig.directory)
    fill(file, NOW + 2)
    assert len(rig.last()) == 2
