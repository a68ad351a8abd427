"""
A control file that says which operations of a file system fail, and how; whoever changes it changes that at once.

A line is C{ACTION OPERATION}, optionally with C{after N bytes}: C{hang write}, C{eio fsync}, C{enospc write after 9000
bytes}. An action is C{hang}, or an errno's name in small letters. An operation is one that FUSE knows (C{create},
C{open}, C{write}, C{fsync}, C{fsyncdir}, C{rename}, C{mkdir}, C{symlink}, C{statfs}, C{getattr} …), or C{all} of them
but those of closing. The bytes are what was written, to any file, since the control file changed. The first line that
applies counts.
"""

import errno
import os
from pathlib import Path
from threading import Lock

from attrs import define, field, frozen

HANG = "hang"
_ALL = "all"
_CLOSING = frozenset({"flush", "release", "releasedir", "init", "destroy"})


class Hangs(Exception):
    """The operation is not to end before the control file changes."""


@frozen
class Fault:
    """One line of the control file."""

    action: str
    operation: str
    after: int = 0

    def concerns(self, operation: str) -> bool:
        return self.operation == operation or (self.operation == _ALL and operation not in _CLOSING)

    def strike(self) -> None:
        """Raise what it stands for."""
        if self.action == HANG:
            raise Hangs
        number = getattr(errno, self.action.upper())
        raise OSError(number, os.strerror(number))


def parse_faults(text: str) -> list[Fault]:
    """
    The faults in a control file.

    @raise ValueError: a line is none.
    """
    return [_parse_line(line) for line in text.splitlines() if line.strip()]


@define
class Control:
    """The control file, and how much was written since it changed. For use from many threads."""

    path: Path
    _lock: Lock = field(factory=Lock, init=False)
    _version: tuple[int, int, str] = field(default=(0, 0, ""), init=False)
    _faults: list[Fault] = field(factory=list, init=False)
    _written: int = field(default=0, init=False)

    def admit(self, operation: str, size: int = 0) -> int:
        """
        Let an operation pass, or not.

        @param size: how many bytes it would write.
        @return: how many of them it may.
        @raise OSError: it fails.
        @raise Hangs: it hangs.
        """
        with self._lock:
            self._refresh()
            for fault in self._faults:
                if fault.concerns(operation):
                    if self._written >= fault.after:
                        fault.strike()
                    size = min(size, fault.after - self._written)
            self._written += size
            return size

    def _refresh(self) -> None:
        text = self.path.read_text()
        found = self.path.stat()
        version = found.st_ino, found.st_mtime_ns, text
        if version != self._version:
            self._version, self._faults, self._written = version, parse_faults(text), 0


def _parse_line(line: str) -> Fault:
    match line.split():
        case [action, operation]:
            after = 0
        case [action, operation, "after", count, "bytes"]:
            after = int(count)
        case _:
            raise ValueError(f"not a fault: {line!r}")
    if action != HANG and not isinstance(getattr(errno, action.upper(), None), int):
        raise ValueError(f"neither hang nor an errno: {line!r}")
    return Fault(action, operation, after)
