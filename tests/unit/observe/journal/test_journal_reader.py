"""
The journal of a day read: its two files, while they change, and past damage.
"""

import gzip
import io
import os
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.model import CrashEvent
from collectord.observe.crashpage import JournalEntry
from collectord.observe.journal import reader
from collectord.observe.journal.files import compress, rewrite
from collectord.observe.journal.lines import HEAL, Line, compressed_path, format_event, journal_path, parse_line
from collectord.observe.journal.reader import Journal, events_of, lines_since
from tests.unit.observe.journal.samples import AT, CRASH_ID, NEIGHBOUR, events, line_of

DAY = "20160622"


def read(directory: Path) -> tuple[list[Line], int]:
    """The lines of the day, and how many are damaged."""
    journal = Journal(directory, DAY)
    return list(journal), journal.damaged


def test_no_journal(tmp_path: Path) -> None:
    assert read(tmp_path) == ([], 0)
    assert read(tmp_path / "absent") == ([], 0)


def test_a_journal_that_can_t_be_read_is_an_error(tmp_path: Path) -> None:
    journal_path(tmp_path, DAY).mkdir()
    with pytest.raises(OSError, match="directory"):
        read(tmp_path)


def test_compressed_lines_come_first(tmp_path: Path) -> None:
    journal = journal_path(tmp_path, DAY)
    compressed_path(journal).write_bytes(gzip.compress(line_of(where="1")) + gzip.compress(line_of(where="2")))
    journal.write_bytes(line_of(where="3"))
    found, damaged = read(tmp_path)
    assert ([line.where for line in found], damaged) == (["1", "2", "3"], 0)


def test_damage(tmp_path: Path) -> None:
    journal = journal_path(tmp_path, DAY)
    good = [line_of(where=str(n)) for n in range(5)]
    journal.write_bytes(
        good[0]
        + (bytes(5000) + good[1])  # a block that a power cut left empty
        + os.urandom(3000).replace(b"\n", b"")
        + b"\n"
        + good[2]
        + (line_of()[:40] + HEAL)  # a full disk, and then there was space
        + good[3]
        + bytes(200_000)
        + b"\n"
        + good[4]
        + line_of()[:-1]  # a kill
    )
    found, damaged = read(tmp_path)
    assert [line.where for line in found] == ["0", "1", "2", "3", "4"]
    assert 5 <= damaged <= 8


@pytest.mark.parametrize("spoil", [lambda b: b[:-30], lambda b: b[:2000] + bytes(1000), lambda b: b"no gzip" + b])
def test_a_compressed_journal_that_is_damaged(tmp_path: Path, spoil: object) -> None:
    journal = journal_path(tmp_path, DAY)
    many = [line_of(at=AT + n, crash_id=f"{os.urandom(4).hex()}{CRASH_ID[8:]}") for n in range(2000)]
    compressed_path(journal).write_bytes(spoil(gzip.compress(b"".join(many))))  # type: ignore[operator]
    journal.write_bytes(line_of(where="3"))
    found, damaged = read(tmp_path)
    assert damaged >= 1
    assert found[-1].where == "3"
    assert events_of(tmp_path, CRASH_ID)[-1].where == "3"


@pytest.mark.slow
@given(
    st.lists(events, max_size=8),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=30) | st.just(bytes(40))), max_size=4),
)
def test_damaged_files_are_read_to_their_end(
    tmp_path_factory: pytest.TempPathFactory, on_event: list[CrashEvent], damages: list[tuple[int, bytes]]
) -> None:
    """Whatever overwrites parts of it: lines that were not touched are all found."""
    directory = tmp_path_factory.mktemp("journal")
    content = b"".join(format_event(event).encode() for event in on_event)
    harmed = bytearray(content)
    for at, damage in damages:
        at = min(at, len(harmed))
        harmed[at : at + len(damage)] = damage
    journal_path(directory, DAY).write_bytes(harmed)
    found, _ = read(directory)
    for crash_id in (CRASH_ID, NEIGHBOUR):
        assert list(Journal(directory, DAY).lines_about(crash_id)) == [
            line for line in found if line.subject == crash_id
        ]
    untouched = set(content.splitlines(keepends=True)) & {line + b"\n" for line in bytes(harmed).split(b"\n")}
    assert {parse_line(line) for line in untouched} <= set(found)
    if bytes(harmed) == content:
        assert found == [parse_line(format_event(event).encode()) for event in on_event]


def test_memory_is_bounded_where_there_is_no_end_of_line(tmp_path: Path) -> None:
    with journal_path(tmp_path, DAY).open("wb") as file:
        file.truncate(50_000_000)
        file.seek(0, os.SEEK_END)
        file.write(line_of())
    tracemalloc.start()
    try:
        found, damaged = read(tmp_path)
        assert list(Journal(tmp_path, DAY).lines_about(CRASH_ID)) == found
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert len(found) == 1
    assert damaged > 0


@pytest.mark.parametrize("zeros", [1, 65_530, 65_536, 65_600, 1_048_570, 1_048_576])
def test_a_good_line_after_zeros_is_found(tmp_path: Path, zeros: int) -> None:
    """Wherever it lies in what is read at once."""
    journal_path(tmp_path, DAY).write_bytes(bytes(zeros) + line_of(where="1") + line_of(where="2"))
    found, damaged = read(tmp_path)
    assert ([line.where for line in found], damaged) == (["1", "2"], 1)
    assert list(Journal(tmp_path, DAY).lines_about(CRASH_ID)) == found


def test_what_stands_before_a_place_of_damage_is_found(tmp_path: Path) -> None:
    many = [line_of(crash_id=f"{n:08x}{CRASH_ID[8:]}", where=os.urandom(8).hex()) for n in range(5000)]
    compressed_path(journal_path(tmp_path, DAY)).write_bytes(gzip.compress(b"".join(many))[:-30])
    found, damaged = read(tmp_path)
    assert len(found) > 4900
    assert damaged in (1, 2)
    assert len(events_of(tmp_path, found[-2].subject)) == 1


def test_only_an_end_of_line_ends_a_line(tmp_path: Path) -> None:
    journal_path(tmp_path, DAY).write_bytes(b"?\r" + line_of(where="1") + line_of(where="2"))
    found, damaged = read(tmp_path)
    assert ([line.where for line in found], damaged) == (["2"], 1)
    assert list(Journal(tmp_path, DAY).lines_about(CRASH_ID)) == found


def test_a_line_that_only_names_a_crash_is_not_about_it(tmp_path: Path) -> None:
    journal_path(tmp_path, DAY).write_bytes(line_of(crash_id=NEIGHBOUR, where=f"/mnt/{CRASH_ID}") + line_of(where="1"))
    assert [line.where for line in Journal(tmp_path, DAY).lines_about(CRASH_ID)] == ["1"]


def rewrite_all(journal: Path) -> None:
    rewrite(journal.parent, DAY, list(Journal(journal.parent, DAY)))


@pytest.mark.parametrize("opened", [1, 2])
@pytest.mark.parametrize("change", [compress, rewrite_all], ids=["compressed", "rewritten"])
def test_no_line_is_missed_while_the_files_change(
    tmp_path: Path, change: Callable[[Path], None], opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_path(tmp_path, DAY)
    compressed_path(journal).write_bytes(gzip.compress(line_of(where="1")))
    journal.write_bytes(line_of(where="2"))
    opening = reader._open_if_there
    calls: list[Path] = []

    def change_after(path: Path) -> io.BufferedIOBase:
        file = opening(path)
        calls.append(path)
        if len(calls) == opened:
            change(journal)
        return file

    monkeypatch.setattr(reader, "_open_if_there", change_after)
    found, damaged = read(tmp_path)
    assert ({line.where for line in found}, damaged) == ({"1", "2"}, 0)


@pytest.mark.slow
def test_the_lines_of_one_crash(tmp_path: Path) -> None:
    journal = journal_path(tmp_path, DAY)
    others = b"".join(line_of(crash_id=NEIGHBOUR, at=AT + n) for n in range(30_000))
    compressed_path(journal).write_bytes(gzip.compress(others + line_of(where="1") + others))
    twice, damaged = line_of("moved", "2") * 2, b"\0\0" + line_of("removed", "3") + line_of()[:50]
    journal.write_bytes(others + twice + others + damaged)
    events = events_of(tmp_path, CRASH_ID)
    assert [(event.what, event.where) for event in events] == [("kept", "1"), ("moved", "2"), ("removed", "3")]
    assert isinstance(events[0], JournalEntry)
    assert events[0].at == pytest.approx(AT)
    assert events_of(tmp_path / "absent", CRASH_ID) == []


# ——— the lines since a time ———


def numbered(count: int, at: float = AT) -> list[bytes]:
    """Lines, each a second after the one before."""
    return [line_of(where=str(number), at=at + number) for number in range(count)]


def since(directory: Path, at: float, now: float = AT + 100_000) -> list[str]:
    return [line.where for line in lines_since(directory, at, datetime.fromtimestamp(now, UTC))]


def test_lines_since_a_time_of_several_days(tmp_path: Path) -> None:
    assert since(tmp_path, AT) == []
    journal_path(tmp_path, DAY).write_bytes(b"".join(numbered(3)) + b"2016-06-22T15:1")
    journal_path(tmp_path, "20160623").write_bytes(b"\0\0" + b"".join(numbered(2, AT + 86_400)))
    assert since(tmp_path, AT + 1) == ["1", "2", "0", "1"]
    assert since(tmp_path, AT + 1, now=AT + 10) == ["1", "2"]
    assert since(tmp_path, AT + 86_401) == ["1"]


@pytest.mark.parametrize("block", [7, 64, 100, 1000, 1_000_000])
def test_lines_since_a_time_are_read_from_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(reader, "_BLOCK", block)
    journal_path(tmp_path, DAY).write_bytes(b"".join(numbered(50)))
    for first in (0, 1, 25, 49, 50):
        assert since(tmp_path, AT + first) == [str(number) for number in range(first, 50)]


def test_a_long_journal_costs_only_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_BLOCK", 1000)
    parsed: list[bytes] = []

    def counting(line: bytes) -> Line | None:
        parsed.append(line)
        return parse_line(line)

    monkeypatch.setattr(reader, "parse_line", counting)
    journal_path(tmp_path, DAY).write_bytes(b"".join(numbered(10_000)))
    assert since(tmp_path, AT + 9_999) == ["9999"]
    assert len(parsed) < 50
