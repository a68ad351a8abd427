"""
The lines of a journal: written, read back, damaged.
"""

import json
from typing import get_args

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from collectord.model import CrashEvent, Step
from collectord.observe.journal.lines import CRASH_KINDS, HEAL, PROCESS_KINDS, Line, format_event, parse_line, time_of
from tests.support.cases import for_each
from tests.unit.observe.journal.samples import AT, CRASH_ID, HOSTILE, TIME, digests, events, texts

lines = st.builds(
    Line,
    time=st.floats(0, 4e9).map(time_of),
    kind=st.sampled_from(sorted(CRASH_KINDS | PROCESS_KINDS)),
    subject=texts.filter(bool),
    where=texts,
    rule=texts,
    digest=digests | st.just(""),
    product=texts,
    version=texts,
    size=st.sampled_from(["", "1234"]),
    uptime_s=st.sampled_from(["", "0"]),
    place=texts,
    fingerprint=texts,
    crash_place=texts,
    exception=texts,
    cpu=texts,
    os=texts,
    details=texts,
)


def test_the_text_of_a_line() -> None:
    kept = CrashEvent(at=AT, crash_id=CRASH_ID, kind="kept", where="/a", about={"rule": "accept_all"})
    assert format_event(kept) == f"{TIME}\tkept\t{CRASH_ID}\t/a\taccept_all\n"
    about: dict[str, str | int] = {"rule": "accept_all", "digest": "0c" * 16}
    about |= {"product": "Fenix", "version": "1.0", "size": 1234}
    known = CrashEvent(at=AT, crash_id=CRASH_ID, kind="kept", where="/a", about=about)
    assert format_event(known) == f"{TIME}\tkept\t{CRASH_ID}\t/a\taccept_all\t{'0c' * 16}\tFenix\t1.0\t1234\n"
    facts = {"fingerprint": "1:0c", "crash_place": "app.dll 0x1f", "exception": "SIGSEGV", "cpu": "x86", "os": "Linux"}
    of_fact = CrashEvent(at=AT, crash_id=CRASH_ID, kind="kept", where="/a", about={**about, **facts, "uptime_s": 0})
    assert format_event(of_fact) == format_event(known)[:-1] + "\t\t1:0c\tapp.dll 0x1f\tSIGSEGV\tx86\tLinux\t0\n"
    again = CrashEvent(at=AT, crash_id=CRASH_ID, kind="duplicate", where="")
    assert format_event(again) == f"{TIME}\tduplicate\t{CRASH_ID}\n"
    moved = CrashEvent(at=AT, crash_id=CRASH_ID, kind="moved", where="/there")
    assert format_event(moved) == f"{TIME}\tmoved\t{CRASH_ID}\t/there\n"
    moved = CrashEvent(at=AT, crash_id=CRASH_ID, kind="moved", where="s3://a", about={"place": "s3://a/v1/b"})
    assert format_event(moved) == f"{TIME}\tmoved\t{CRASH_ID}\ts3://a\t\t\t\t\t\ts3://a/v1/b\n"
    moved = evolve(moved, about={"details": "took=44"})
    assert format_event(moved) == f"{TIME}\tmoved\t{CRASH_ID}\ts3://a{13 * chr(9)}took=44\n"
    kept = evolve(of_fact, about={**of_fact.about, "details": "took=4"})
    assert format_event(kept) == format_event(of_fact)[:-1] + "\ttook=4\n"
    assert Line(TIME, "start", "host-1-ab").encode() == f"{TIME}\tstart\thost-1-ab\n".encode()
    assert Line(TIME, "lost", "7").encode() == f"{TIME}\tlost\t7\n".encode()


def test_the_kinds_of_lines() -> None:
    assert set(get_args(Step)) == CRASH_KINDS


def test_milliseconds_do_not_spill() -> None:
    assert time_of(1466608789.9996) == "2016-06-22T15:19:50.000Z"
    assert Line(TIME, "start", "a").at == pytest.approx(AT)


def test_what_is_written_is_one_line_without_anything_that_a_terminal_obeys() -> None:
    line = format_event(CrashEvent(at=AT, crash_id=CRASH_ID, kind="moved", where=HOSTILE, about={"rule": HOSTILE}))
    assert line.count("\n") == 1
    assert line.count("\t") == 4
    assert line.replace("\t", "")[:-1].isprintable()
    line.encode()


@given(events)
def test_parse_is_the_inverse_of_format(event: CrashEvent) -> None:
    line = parse_line(format_event(event).encode())
    about = [str(event.about.get(name, "")) for name in ("rule", "digest", "product", "version", "size", "place")]
    assert line == Line(time_of(event.at), event.kind, event.crash_id, event.where, *about)
    assert line is not None
    assert line.at == pytest.approx(event.at, abs=0.001)


@given(lines)
def test_parse_is_the_inverse_of_encode(line: Line) -> None:
    assert parse_line(line.encode()) == line


@given(events, st.data())
def test_no_line_that_was_cut_off_is_taken_for_whole(event: CrashEvent, data: st.DataObject) -> None:
    """Neither at the end of a file, nor where the next one went on."""
    line = format_event(event).encode()
    part = line[: data.draw(st.integers(0, len(line) - 1))]
    assert parse_line(part) is None
    assert parse_line(part + HEAL) is None


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_garbage_is_refused_or_a_line(garbage: bytes) -> None:
    line = parse_line(garbage)
    assert line is None or line.at >= 0


@for_each(
    "bad",
    [
        b"",
        b"\n",
        f"{TIME}\tkept\t\t/a\n".encode(),
        f"{TIME}\tkissed\t{CRASH_ID}\t/a\n".encode(),
        f"2016-13-22T15:19:49.123Z\tkept\t{CRASH_ID}\t/a\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/a\tb\tc\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/a\tb\t{'0c' * 15}\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/a\tb\t{'0c' * 16}\tFenix\t1\tsize\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/a\tb\t{'0c' * 16}\tFenix\t1\t5\ts3://a/b\t1:a\tb\tc\td\te\tmore\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/a\tb\t{'0c' * 16}\tFenix\t1\t5\ts3://a/b\t1:a\tb\tc\td\te\t5\ttook=4\tmore\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/a\\\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/a\\u00\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/".encode() + b"\xff\n",
        f"{TIME}\tkept\t{CRASH_ID}\t/srv\0\0\0/crashes\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/srv/crashes\tru\0e\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID[:8]}\0\0{CRASH_ID[10:]}\t/a\n".encode(),
        f"{TIME}\tkept\t{CRASH_ID}\t/a\r\n".encode(),
    ],
)
def test_bad_lines(bad: bytes) -> None:
    assert parse_line(bad) is None


def test_a_line_is_a_tuple_that_json_can_tell() -> None:
    assert json.loads(json.dumps(Line(TIME, "kept", CRASH_ID, "/a")._asdict()))["where"] == "/a"
