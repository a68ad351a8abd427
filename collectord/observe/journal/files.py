"""
The files of the journals: added to, synced, packed when they are quiet, removed when they are old. All of it blocks.

Several processes share a directory. Each adds under a shared lock, and what replaces a file holds it alone; so nobody
adds to a file that is gone.
"""

import fcntl
import gzip
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from collectord.model import CrashEvent
from collectord.observe.journal.lines import HEAL, Line, day_of, format_event, journal_of, packed, time_of

_QUIET_S = 2 * 24 * 3600.0
"""A journal that nothing was added to for so long is packed."""
_DAY_S = 24 * 3600.0
_COPY = 1024 * 1024
_JOURNAL = re.compile(r"[0-9]{8}\.journal(\.gz)?")


class JournalFiles:
    """
    What one process writes.

    While it runs it holds the lock of C{<host>-<pid>-<random>.running}, whose time says until when its lines are safe.
    Whoever starts later and finds such a file without a lock knows of an unclean stop.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._running: int | None = None
        self._unsynced: set[str] = set()

    def begin(self, now: datetime) -> None:
        """
        Make the directory if it is not there, but nothing above it: a file system may not be mounted. Say who starts,
        and who ended without a stop.

        @raise OSError: it can't be used.
        """
        with suppress(FileExistsError):
            self._directory.mkdir(0o700)
        for dead in self._directory.glob("*.running"):
            self._tell_unclean(dead, now)
        if self._running is None:
            fd = os.open(self._own, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._running = fd
        self._tell(now, "start")

    @property
    def _own(self) -> Path:
        return self._directory / f"{self._process}.running"

    def _tell_unclean(self, dead: Path, now: datetime) -> None:
        if dead == self._own:
            return
        with suppress(BlockingIOError, FileNotFoundError), dead.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(file.fileno())
            if not found.st_nlink:  # another one that starts now has told it
                return
            at = now.timestamp()
            line = Line(time_of(at), "unclean", dead.stem, time_of(found.st_mtime))
            for day in sorted({f"{datetime.fromtimestamp(t, now.tzinfo):%Y%m%d}" for t in (found.st_mtime, at)}):
                self._append(day, line.encode())
            dead.unlink()

    def _tell(self, now: datetime, kind: str) -> None:
        self._append(f"{now:%Y%m%d}", Line(time_of(now.timestamp()), kind, self._process).encode())

    def write(self, events: Sequence[CrashEvent], lost: Mapping[str, int], now: datetime) -> None:
        """
        Add lines. After an error some may be there, and are there twice once it is tried again.

        @param lost: how many lines of a day (C{yyyymmdd}) were given up.

        @raise OSError: not all are written.
        """
        lines: dict[str, list[str]] = {}
        for event in events:
            lines.setdefault(event.crash_id[-6:], []).append(format_event(event))
        for of_day in lines.values():
            self._append(day_of(of_day[0].split("\t")[2]), "".join(of_day).encode())
        for day, count in lost.items():
            self._append(day, Line(time_of(now.timestamp()), "lost", str(count)).encode())

    def _append(self, day: str, lines: bytes) -> None:
        self._unsynced.add(day)
        _append(self._directory, day, lines)

    def sync(self, now: datetime) -> None:
        """
        Make durable what was added, if anything was, and say so.

        @raise OSError: it may not be.
        """
        if not self._unsynced:
            return
        for path in (*(journal_of(self._directory, day) for day in self._unsynced), self._directory):
            with suppress(FileNotFoundError):
                _fsync(path)
        self._unsynced.clear()
        if self._running is not None:
            os.utime(self._running, (now.timestamp(), now.timestamp()))
            os.fsync(self._running)

    def quiet(self, now: datetime) -> list[Path]:
        """
        The journals to be packed.

        @raise OSError: the directory can't be read.
        """
        return sorted(p for p in self._journals() if p.suffix == ".journal" and _age(p, now) > _QUIET_S)

    def remove_old(self, keep_days: int, now: datetime) -> None:
        """
        Remove what nothing was added to for C{keep_days}.

        @raise OSError: some are still there.
        """
        for path in (*self._journals(), *self._directory.glob("*.tmp")):
            if _age(path, now) > keep_days * _DAY_S:
                path.unlink(missing_ok=True)

    def _journals(self) -> Iterator[Path]:
        return (path for path in self._directory.iterdir() if _JOURNAL.fullmatch(path.name))

    def end(self, now: datetime) -> None:
        """
        Say who stops.

        @raise OSError: it will look as if the stop was unclean.
        """
        self._tell(now, "stop")
        self.sync(now)
        self._own.unlink(missing_ok=True)
        if self._running is not None:
            os.close(self._running)
            self._running = None


def ended_uncleanly(directory: Path) -> Iterator[tuple[str, float]]:
    """
    Processes that ended without a stop, and nobody started since then; with the time until when their lines are safe.

    @raise OSError: it can't be found out.
    """
    for path in directory.glob("*.running"):
        with suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield path.stem, os.fstat(file.fileno()).st_mtime


def pack(journal: Path) -> None:
    """
    Compress C{journal}, after what was packed of that day before.

    @raise OSError: it is as it was.
    """
    with _locked(journal, fcntl.LOCK_EX) as fd:
        with _replacing(packed(journal)) as new:
            with suppress(FileNotFoundError), packed(journal).open("rb") as before:
                shutil.copyfileobj(before, new, _COPY)
            with gzip.GzipFile("", "wb", fileobj=new, mtime=0) as member, open(fd, "rb", closefd=False) as lines:
                shutil.copyfileobj(lines, member, _COPY)
                if _is_cut_off(fd):
                    member.write(HEAL)
            new.flush()
            os.utime(new.fileno(), ns=(os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns))  # its age counts
        journal.unlink()


def add_lines(directory: Path, day: str, lines: Iterable[Line]) -> None:
    """
    Add to the journal of C{day}.

    @raise OSError: not all of them are there.
    """
    _append(directory, day, b"".join(line.encode() for line in lines))


def rewrite(directory: Path, day: str, lines: Iterable[Line]) -> None:
    """
    Put C{lines} in the place of all that there is of the journal of C{day}. They may be read from it meanwhile.

    @raise OSError: it is as it was, or has lines twice.
    """
    with suppress(FileExistsError):
        directory.mkdir(0o700)
    journal = journal_of(directory, day)
    with _locked(journal, fcntl.LOCK_EX):
        with _replacing(journal) as new:
            new.writelines(line.encode() for line in lines)
        packed(journal).unlink(missing_ok=True)


def _append(directory: Path, day: str, lines: bytes) -> None:
    with _locked(journal_of(directory, day), fcntl.LOCK_SH) as fd:
        rest = memoryview(HEAL + lines if _is_cut_off(fd) else lines)
        while rest:
            rest = rest[os.write(fd, rest) :]


@contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    """A descriptor of the file that is at C{path} now, and stays there; it is made where there is none."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, how)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    yield fd
                    return
        finally:
            os.close(fd)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of C{path}, and belongs to whom the directory belongs."""
    new = path.with_name(f"{path.name}.tmp")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            yield file
            file.flush()
            owner = path.parent.stat()
            if owner.st_uid != os.geteuid():  # root repairs what the daemon has to go on with
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _fsync(path.parent)


def _is_cut_off(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size > 0 and os.pread(fd, 1, size - 1) != b"\n"


def _age(path: Path, now: datetime) -> float:
    """Seconds since something was added; 0 where it is gone."""
    try:
        return now.timestamp() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
