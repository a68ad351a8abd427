"""
Disk pressure: its levels, and which crash is the first of its fingerprint.
"""

from collections.abc import Sequence

import pytest

from collectord.model import CrashReport, Dump, InMemory, Note, Payload
from collectord.pressure import IN_WORDS, NO_PRESSURE, Pressure, PressureLevel, RoomGauge
from tests.support.cases import for_each

NONE, NO_ATTACHMENTS, FIRST_ONLY = PressureLevel


@for_each(
    ("free", "levels"),
    [
        pytest.param([1000, 999, 600, 599], [NONE, NO_ATTACHMENTS, NO_ATTACHMENTS, FIRST_ONLY], id="it gets less"),
        pytest.param([100, 629, 630, 1049, 1050], [2, 2, 1, 1, 0], id="and more"),
        pytest.param([100, 9999], [2, 0], id="at once"),
        pytest.param([9999, 0, 9999], [0, 2, 0], id="to nothing"),
        pytest.param([100, None], [2, 0], id="nobody knows"),
        pytest.param([990, 1010, 1050, 1010], [1, 1, 0, 0], id="it does not flap"),
    ],
)
def test_the_level_of_a_store(free: Sequence[int | None], levels: Sequence[int]) -> None:
    room = RoomGauge(low=1000, full=200)
    found = []
    for each in free:
        room.note(each)
        found.append(room.level)
    assert found == levels


def test_without_a_mark_there_is_no_pressure() -> None:
    room = RoomGauge(low=0, full=200)
    room.note(0)
    assert room.level is NONE


def test_each_level_has_words() -> None:
    assert set(IN_WORDS) == set(PressureLevel)
    assert [level for level, words in IN_WORDS.items() if not words] == [NONE]


def test_only_the_first_of_each_fingerprint_is_kept() -> None:
    pressure = Pressure(lambda: FIRST_ONLY)
    assert [pressure.refuses(each) for each in "abab"] == [False, False, True, True]
    pressure.forget("a")
    pressure.forget("unknown")
    assert [pressure.refuses(each) for each in "aa"] == [False, True]


@for_each("level", [NONE, NO_ATTACHMENTS])
def test_below_the_last_level_all_are_kept_and_it_begins_anew(level: PressureLevel) -> None:
    levels = [FIRST_ONLY]
    pressure = Pressure(lambda: levels[-1])
    pressure.refuses("a")
    levels.append(level)
    assert not pressure.refuses("a")
    levels.pop()
    assert [pressure.refuses("a"), pressure.refuses("a")] == [False, True]


def test_what_is_forgotten_is_kept_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.pressure._REMEMBERED", 2)
    pressure = Pressure(lambda: FIRST_ONLY)
    assert [pressure.refuses(each) for each in "abacab"] == [False, False, True, False, True, False]


def dump(name: str, *, is_minidump: bool = False) -> Dump:
    return Dump(name=name, size=3, sha256="aa", content=InMemory([b"abc"]), is_minidump=is_minidump)


@for_each("level", [NO_ATTACHMENTS, FIRST_ONLY])
def test_attachments_are_left_out_with_a_note(level: PressureLevel) -> None:
    minidump, browser = dump("upload_file_minidump", is_minidump=True), dump("other", is_minidump=True)
    report = CrashReport(
        annotations={"a": "1"},
        dumps=[dump("log"), minidump, browser],
        notes=[Note("cut", "before")],
        payload=Payload(structure="multipart", compressed=False, size=1, user_agent=""),
    )
    lightened = Pressure(lambda: level).lightened(report)
    assert list(lightened.dumps) == [minidump, browser]
    assert lightened.notes == [
        Note("cut", "before"),
        Note("left_out", "log: 3 bytes, left out: the disk is nearly full"),
    ]
    assert NO_PRESSURE.lightened(report) is report


@for_each(
    ("has_minidump", "kept"),
    [(True, ["upload_file_minidump"]), (False, ["event", "upload_file_minidump"])],
)
def test_what_stands_for_the_crash_is_kept(has_minidump: bool, kept: Sequence[str]) -> None:
    """A minidump may be there and be empty."""
    report = CrashReport(
        annotations={},
        dumps=[dump("log"), dump("event"), dump("upload_file_minidump", is_minidump=True)],
        notes=[],
        payload=Payload(structure="envelope", compressed=False, size=1, user_agent=""),
        has_minidump=has_minidump,
        documents={"event", "context"},
    )
    lightened = Pressure(lambda: NO_ATTACHMENTS).lightened(report)
    assert [dump.name for dump in lightened.dumps] == kept
    assert len(lightened.notes) == 3 - len(kept)
