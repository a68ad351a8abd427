"""
Log lines are written by a thread of their own: who logs never waits for who reads.
"""

import atexit
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, RLock, Thread, current_thread
from time import monotonic, sleep

MAX_BYTES = 2**20
MAX_LINES = 10_000
"""Of what waits to be written; as much again may be on its way."""

PIECE = 4096
"""Bytes that are written at once: a pipe takes so many as a whole, and other writers' lines do not come in between."""

_GATHER_S = 0.05
"""What comes so soon after a write goes together: each turn of a thread holds the reactor up."""
_CLOSE_S = 1.0
_UNREAD = "they were not taken in time"
_END = ord("\n")


class LogWriter:
    """
    Takes lines from any thread, and from handlers of signals, and writes them on its own.

    What comes while too much waits is lost, and so is what can't be written. Both are counted, and the log says so, in
    the place of what is missing, as soon as it takes lines again.

    @param write: as C{os.write}: takes some of the bytes, and tells how many; it may block, or raise C{OSError}.
    @param notice: the line that says how many are missing, and why.
    @ivar lost: lines, since the start.
    """

    def __init__(self, write: Callable[[bytes], int], notice: Callable[[int, str], bytes]) -> None:
        self._write = write
        self._notice = notice
        self.lost = 0
        # Both are reentrant: a signal may come in the middle of it, and its handler log.
        self._lock = RLock()
        self._wake: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lines: list[bytes] = []
        self._size = 0
        self._refused = 0
        self._idle = True
        self._missing = 0
        self._why = ""
        self._torn = False
        self._closes_at: float | None = None
        self._thread: Thread | None = None
        atexit.register(self.close)

    def start(self) -> None:
        """Write from now on. Only once the process forks no more, for a thread does not come along."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def __call__(self, lines: bytes) -> None:
        """Take one or several lines, each with its end."""
        with self._lock:
            if self._refused or self._size + len(lines) > MAX_BYTES or len(self._lines) >= MAX_LINES:
                self._refused += lines.count(b"\n")
                self.lost += lines.count(b"\n")
            else:
                self._lines.append(lines)
                self._size += len(lines)
            idle, self._idle = self._idle, False
        if idle:
            self._wake.put(None)
        if self._closes_at is not None:
            self._flush()

    def then(self, act: Callable[[], object]) -> None:
        """Do C{act} on the thread, once what was taken so far is written."""
        self._wake.put(act)

    def close(self) -> None:
        """
        Wait until all is written, for a second at most: this blocks, so the reactor should have stopped.

        What is logged later is waited for, too, if some of that second is left.
        """
        if self._closes_at is None:
            self._closes_at = monotonic() + _CLOSE_S
        self._flush()

    def _flush(self) -> None:
        assert self._closes_at is not None
        if self._thread is None:
            self._drain()
            return
        if self._thread is current_thread():
            return
        written = Event()
        self.then(written.set)
        written.wait(max(0.0, self._closes_at - monotonic()))

    def _run(self) -> None:
        while True:
            act = self._wake.get()
            self._drain()
            if act is None:
                sleep(_GATHER_S)
            else:
                with suppress(Exception):  # this thread has to live
                    act()

    def _drain(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            refused, self._refused = self._refused, 0
            self._size = 0
            self._idle = True
        for piece in _pieces(lines):
            if self._told_what_is_missing():
                self._lose(self._put(piece))
            else:
                self._lose(piece)
        if refused:
            self._missing += refused
            self._why = _UNREAD
        self._told_what_is_missing()

    def _told_what_is_missing(self) -> bool:
        """Whether nothing is missing that the log does not tell of."""
        if not self._missing:
            return True
        end = b"\n" if self._torn else b""
        if self._put(end + self._notice(self._missing, self._why)):
            return False
        self._missing, self._torn = 0, False
        return True

    def _put(self, data: bytes) -> bytes:
        """Write C{data}; what of it could not be written."""
        rest = data
        try:
            while rest:
                rest = rest[self._write(rest) :]
        except Exception as e:  # this thread has to live
            self._why = (isinstance(e, OSError) and e.strerror) or repr(e)
            if len(rest) < len(data):
                self._torn = data[-len(rest) - 1] != _END
        return rest

    def _lose(self, lines: bytes) -> None:
        if lines:
            self._missing += lines.count(b"\n")
            with self._lock:
                self.lost += lines.count(b"\n")


def _pieces(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Lines, together up to L{PIECE} bytes."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > PIECE and piece:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)
