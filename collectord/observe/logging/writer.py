"""
A thread that writes the log lines, so that code that logs never waits for a slow disk, pipe or terminal.
"""

import atexit
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, RLock, Thread, current_thread
from time import monotonic, sleep

MAX_BYTES = 2**20
MAX_LINES = 10_000
"""The most bytes and lines that may wait to be written; as many again may be with the thread."""

PIECE = 4096
"""Bytes that are written at once. A pipe takes so many as a whole, so no other writer's lines come in between."""

_GATHER_S = 0.05
"""After a write the thread sleeps for so long, and writes what came meanwhile at once. Each turn delays the reactor."""
_CLOSE_S = 1.0
_UNREAD = "the log did not take them in time"
_END = ord("\n")


class LogWriter:
    """
    Takes log lines from any thread, and from signal handlers, and writes them on a thread of its own.

    Lines that come while too many wait are lost, and so are lines that can't be written. They are counted, and as soon
    as lines can be written again, a line in their place says how many are missing.

    @param write: writes some of the bytes and returns how many, as C{os.write} does; it may block, or raise C{OSError}.
    @param notice: returns the line that says how many lines are missing, and why.
    @ivar lost: lines that were lost since the start.
    """

    def __init__(self, write: Callable[[bytes], int], notice: Callable[[int, str], bytes]) -> None:
        self._write = write
        self._notice = notice
        self.lost = 0
        # Both are reentrant, since a signal may arrive while they are in use, and its handler may log.
        self._lock = RLock()
        self._wake: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lines: list[bytes] = []  # What waits for the thread, and of how many bytes.
        self._size = 0
        self._refused = 0  # Lines that came while too many waited.
        self._idle = True  # Whether the thread has to be woken.
        self._missing = 0  # Lines that were lost, and of which the log does not say so yet; and why.
        self._why = ""
        self._torn = False  # Whether the line that was written last is cut off.
        self._closes_at: float | None = None
        self._thread: Thread | None = None
        atexit.register(self.close)

    def start(self) -> None:
        """Start the thread. Call this once the process forks no more, since a forked process would be without it."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def __call__(self, lines: bytes) -> None:
        """Take one or several lines, each with its end, to be written soon. It does not block."""
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
        """Call C{act} on the thread, once the lines that were taken so far are written."""
        self._wake.put(act)

    def close(self) -> None:
        """
        Wait until all lines are written. This blocks for up to a second, so call it once the reactor has stopped.

        Lines that are logged later are waited for, too, if some of that second is left.
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
                with suppress(Exception):  # The thread must not end.
                    act()

    def _drain(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            refused, self._refused = self._refused, 0
            self._size = 0
            self._idle = True
        for piece in _pieces(lines):
            if self._notice_written():
                self._lose(self._put(piece))
            else:
                self._lose(piece)
        if refused:
            self._missing += refused
            self._why = _UNREAD
        self._notice_written()

    def _notice_written(self) -> bool:
        """Write the notice if lines are missing. Return whether the log now says of all of them that they are."""
        if not self._missing:
            return True
        end = b"\n" if self._torn else b""
        if self._put(end + self._notice(self._missing, self._why)):
            return False
        self._missing, self._torn = 0, False
        return True

    def _put(self, data: bytes) -> bytes:
        """Write C{data}, and return the part that could not be written."""
        rest = data
        try:
            while rest:
                rest = rest[self._write(rest) :]
        except Exception as e:  # The thread must not end.
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
    """Yield C{lines} joined to pieces of up to L{PIECE} bytes; a longer line is a piece by itself."""
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
