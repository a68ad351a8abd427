import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread
from typing import Any

import pytest
from attrs import define, field

from collectord.observe.logging import writer as logwriter
from collectord.observe.logging.writer import MAX_BYTES, MAX_LINES, PIECE, LogWriter


@define
class Sink:
    """Takes what is written, when the test lets it."""

    written: list[bytes] = field(factory=list)
    flows: Event = field(factory=Event)
    entered: Event = field(factory=Event)
    error: Exception | None = None
    at_most: int = PIECE * 2

    def write(self, data: bytes) -> int:
        self.entered.set()
        assert self.flows.wait(10)
        if self.error is not None:
            raise self.error
        self.written.append(data[: self.at_most])
        return len(self.written[-1])

    @property
    def lines(self) -> list[bytes]:
        return b"".join(self.written).splitlines()


def notice(lines: int, why: str) -> bytes:
    return f"{lines} lost: {why}\n".encode()


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    monkeypatch.setattr(logwriter, "_GATHER_S", 0.005)
    sink = Sink()
    yield sink
    sink.flows.set()


def started(sink: Sink) -> LogWriter:
    writer = LogWriter(sink.write, notice)
    writer.start()
    return writer


def flush(writer: LogWriter) -> None:
    written = Event()
    writer.then(written.set)
    assert written.wait(10)


def line(number: int) -> bytes:
    return b"line %06d\n" % number


def test_lines_come_in_order_and_together(sink: Sink) -> None:
    writer = started(sink)
    sink.flows.set()
    for number in range(3000):
        writer(line(number))
    flush(writer)
    assert sink.lines == [line(number).rstrip() for number in range(3000)]
    assert all(piece.endswith(b"\n") and len(piece) <= PIECE for piece in sink.written)
    assert len(sink.written) < 100
    assert writer.lost == 0


def test_logging_never_waits_and_lost_lines_are_noticed_in_their_place(sink: Sink) -> None:
    writer = started(sink)
    writer(b"first\n")
    assert sink.entered.wait(10)
    for number in range(MAX_LINES + 7):
        writer(line(number))
    assert writer.lost == 7
    sink.flows.set()
    flush(writer)
    writer(b"last\n")
    flush(writer)
    taken = [line(number).rstrip() for number in range(MAX_LINES)]
    assert sink.lines == [b"first", *taken, b"7 lost: the log did not take them in time", b"last"]
    assert writer.lost == 7


def test_bytes_are_bounded_too(sink: Sink) -> None:
    writer = started(sink)
    writer(b"first\n")
    assert sink.entered.wait(10)
    big = b"x" * (MAX_BYTES // 4) + b"\n"
    for _ in range(10):
        writer(big)
    writer(b"small\n")  # there is room for it, but not in its place
    assert writer.lost == 8
    sink.flows.set()
    flush(writer)
    assert [len(line) for line in sink.lines[1:4]] == [len(big) - 1] * 3
    assert sink.lines[4:] == [b"8 lost: the log did not take them in time"]


def test_what_cannot_be_written_is_lost_and_counted_until_it_can(sink: Sink) -> None:
    writer = started(sink)
    sink.flows.set()
    sink.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    writer(b"one\ntwo\n")
    flush(writer)
    writer(b"three\n")
    flush(writer)
    assert (writer.lost, sink.written) == (3, [])
    sink.error = None
    writer(b"four\n")
    flush(writer)
    assert sink.lines == [b"3 lost: No space left on device", b"four"]
    assert writer.lost == 3


def test_a_line_that_was_cut_off_is_ended(sink: Sink) -> None:
    sink.flows.set()
    written: list[bytes] = []

    def some(data: bytes) -> int:
        if not written:
            written.append(data[:6])
            return 6
        if not has_room.is_set():
            raise OSError(errno.ENOSPC, "full")
        return sink.write(data)

    has_room = Event()
    writer = LogWriter(some, notice)
    writer.start()
    writer(b"one\ntwo\nthree\n")
    flush(writer)
    assert writer.lost == 2
    has_room.set()
    writer(b"four\n")
    flush(writer)
    assert b"".join([*written, *sink.written]) == b"one\ntw\n2 lost: full\nfour\n"


@pytest.mark.parametrize("error", [ValueError("closed"), RuntimeError("what else")])
def test_nothing_ends_the_thread(sink: Sink, error: Exception) -> None:
    writer = started(sink)
    sink.flows.set()
    sink.error = error
    writer(b"one\n")
    writer.then(lambda: 1 / 0)
    flush(writer)
    sink.error = None
    writer(b"two\n")
    flush(writer)
    assert sink.lines == [f"1 lost: {error!r}".encode(), b"two"]


def test_actions_run_on_the_thread_in_their_turn(sink: Sink) -> None:
    writer = started(sink)
    seen: list[int] = []
    writer(b"one\n")
    writer.then(lambda: seen.append(len(sink.lines)))
    sink.flows.set()
    flush(writer)
    assert seen == [1]


def test_close_writes_all_lines_and_later_ones_too(sink: Sink) -> None:
    writer = started(sink)
    sink.flows.set()
    writer(b"one\n")
    writer.close()
    assert sink.lines == [b"one"]
    writer(b"two\n")
    assert sink.lines == [b"one", b"two"]


def test_close_waits_a_second_at_most(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwriter, "_CLOSE_S", 0.2)
    writer = started(sink)
    writer(b"one\n")
    began = time.monotonic()
    writer.close()
    for _ in range(100):
        writer(b"more\n")
    writer.close()
    assert 0.2 <= time.monotonic() - began < 5


def test_close_writes_without_a_thread_too(sink: Sink) -> None:
    writer = LogWriter(sink.write, notice)
    sink.flows.set()
    writer(b"why it does not start\n")
    assert sink.written == []
    writer.close()
    assert sink.lines == [b"why it does not start"]


@contextmanager
def signals(handler: Callable[[], object]) -> Iterator[None]:
    """Call C{handler} as a signal handler, many times a second, at any point of the code."""
    before: Any = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_logging_from_within_the_writer_does_not_deadlock(sink: Sink) -> None:
    """A signal handler or a destructor may log while the writer works."""
    writer = started(sink)
    sink.flows.set()

    class Interrupted(bytes):
        def __len__(self) -> int:
            writer(b"within\n")
            return super().__len__()

    logs = Thread(target=writer, args=(Interrupted(b"outer\n"),), daemon=True)
    logs.start()
    logs.join(10)
    assert not logs.is_alive()
    flush(writer)
    assert set(sink.lines) == {b"within", b"outer"}


def test_handlers_of_signals_and_other_threads_log_too(sink: Sink) -> None:
    writer = started(sink)
    sink.flows.set()
    numbers = count()

    def handle() -> None:
        writer(b"handler %d\n" % next(numbers))

    def log(name: bytes) -> None:
        for number in range(3000):
            writer(b"%s %d\n" % (name, number))

    other = Thread(target=log, args=(b"other",))
    other.start()
    with signals(handle):
        log(b"main")
        other.join()
    flush(writer)
    for name in (b"main", b"other"):
        assert [one for one in sink.lines if one.startswith(name)] == [b"%s %d" % (name, n) for n in range(3000)]
    handled = [one for one in sink.lines if one.startswith(b"handler")]  # a handler may interrupt another
    assert sorted(handled) == sorted(b"handler %d" % n for n in range(next(numbers)))
    assert writer.lost == 0
