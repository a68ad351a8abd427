"""
Writes the files of the journals: lines are added and synced, quiet files are compressed, old files are removed.

All functions here block. Several processes share a directory. A process that adds lines holds a shared lock of the
file, and one that replaces the file holds an exclusive lock; so nobody adds lines to a file that has been replaced.

On a file system that has no locks or can't sync directories the journal fails. A store does without them: it goes by
the age of what a process left, and it tells the operator what its file system can't do.
"""

import fcntl
import gzip
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from collectord.model import CrashEvent
from collectord.observe.journal.lines import (
    HEAL,
    JOURNAL,
    Line,
    compressed_path,
    format_event,
    journal_day,
    journal_path,
    time_of,
)
from collectord.storage.files import new_process_name, sync_and_close

_QUIET_S = 2 * 24 * 3600.0
"""A journal to which nothing was added for so long is compressed."""
_DAY_S = 24 * 3600.0
_COPY = 1024 * 1024


class JournalFiles:
    """
    Writes the lines of one process into the journals of a directory.

    While the process runs it holds the lock of a file C{<host>-<pid>-<random>.running}. The modification time of that
    file says up to when the lines of the process are durable. A process that starts later and finds such a file without
    a lock knows that its owner ended without a stop.

    Every method blocks; call them on one thread, one after the other.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = new_process_name()
        self._running: int | None = None
        self._unsynced: set[str] = set()

    def begin(self, now: datetime) -> None:
        """
        Make the directory if it is not there, and write which process starts and which ended without a stop.

        The directories above are not made, since the file system that belongs there may not be mounted.

        @raise OSError: the directory can't be used.
        """
        with suppress(FileExistsError):
            self._directory.mkdir(0o700)
        for dead in self._directory.glob("*.running"):
            self._record_unclean(dead, now)
        if self._running is None:
            fd = os.open(self._own, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._running = fd
        self._record(now, "start")

    @property
    def _own(self) -> Path:
        return self._directory / f"{self._process}.running"

    def _record_unclean(self, dead: Path, now: datetime) -> None:
        if dead == self._own:
            return
        with suppress(BlockingIOError, FileNotFoundError), dead.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(file.fileno())
            if not found.st_nlink:  # Another process that starts now has recorded it, and removed the file.
                return
            at = now.timestamp()
            line = Line(time_of(at), "unclean", dead.stem, time_of(found.st_mtime))
            for day in sorted({f"{datetime.fromtimestamp(t, now.tzinfo):%Y%m%d}" for t in (found.st_mtime, at)}):
                self._append(day, line.encode())
            dead.unlink()

    def _record(self, now: datetime, kind: str) -> None:
        self._append(f"{now:%Y%m%d}", Line(time_of(now.timestamp()), kind, self._process).encode())

    def write(self, events: Sequence[CrashEvent], lost: Mapping[str, int], now: datetime) -> None:
        """
        Add a line for each event, and one for each day of which lines were lost.

        After an error some lines may have been written. The caller tries again, and they are then there twice.

        @param lost: how many lines were given up, by the day (C{yyyymmdd}) of their crashes.

        @raise OSError: not all lines are written.
        """
        lines: dict[str, list[str]] = {}
        for event in events:
            lines.setdefault(journal_day(event.crash_id), []).append(format_event(event))
        for day, of_day in lines.items():
            self._append(day, "".join(of_day).encode())
        for day, count in lost.items():
            self._append(day, Line(time_of(now.timestamp()), "lost", str(count)).encode())

    def _append(self, day: str, lines: bytes) -> None:
        self._unsynced.add(day)
        _append(self._directory, day, lines)

    def sync(self, now: datetime) -> None:
        """
        Make durable what was added since the last call, and set the time of the C{.running} file to C{now}.

        @raise OSError: it may not be durable.
        """
        if not self._unsynced:
            return
        for path in (*(journal_path(self._directory, day) for day in self._unsynced), self._directory):
            with suppress(FileNotFoundError):
                _sync(path)
        self._unsynced.clear()
        if self._running is not None:
            os.utime(self._running, (now.timestamp(), now.timestamp()))
            os.fsync(self._running)

    def quiet(self, now: datetime) -> list[Path]:
        """
        Return the journals to which nothing was added for so long that they should be compressed.

        @raise OSError: the directory can't be read.
        """
        return sorted(p for p in self._journals() if p.suffix == ".journal" and _age(p, now) > _QUIET_S)

    def remove_old(self, keep_days: int, now: datetime) -> None:
        """
        Remove the files to which nothing was added for C{keep_days} days.

        @raise OSError: some of them are still there.
        """
        for path in (*self._journals(), *self._directory.glob("*.tmp")):
            if _age(path, now) > keep_days * _DAY_S:
                path.unlink(missing_ok=True)

    def _journals(self) -> Iterator[Path]:
        return (path for path in self._directory.iterdir() if JOURNAL.fullmatch(path.name))

    def end(self, now: datetime) -> None:
        """
        Write that this process stops, make all of its lines durable, and give up its C{.running} file.

        @raise OSError: the next process that starts will record an unclean stop.
        """
        self._record(now, "stop")
        self.sync(now)
        self._own.unlink(missing_ok=True)
        if self._running is not None:
            os.close(self._running)
            self._running = None


def ended_uncleanly(directory: Path) -> Iterator[tuple[str, float]]:
    """
    Yield the processes that ended without a stop, if no other process has started and recorded that since.

    @return: the name of each process, and the time up to which its lines are durable, in seconds since the epoch.
    @raise OSError: it can't be found out.
    """
    for path in directory.glob("*.running"):
        with suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield path.stem, os.fstat(file.fileno()).st_mtime


def is_written(directory: Path) -> bool:
    """Tell whether a daemon runs that writes the journals there, or raise L{OSError}."""
    begun = {path.stem for path in directory.glob("*.running")}
    return not begun <= {process for process, _ in ended_uncleanly(directory)}


def compress(journal: Path) -> None:
    """
    Compress C{journal}: append its lines to those of that day that were compressed before, and remove it.

    @raise OSError: nothing was changed.
    """
    with _locked(journal, fcntl.LOCK_EX) as fd:
        with _replacing(compressed_path(journal)) as new:
            with suppress(FileNotFoundError), compressed_path(journal).open("rb") as before:
                shutil.copyfileobj(before, new, _COPY)
            with gzip.GzipFile("", "wb", fileobj=new, mtime=0) as member, open(fd, "rb", closefd=False) as lines:
                shutil.copyfileobj(lines, member, _COPY)
                if _is_cut_off(fd):
                    member.write(HEAL)
            new.flush()
            # The compressed file keeps the time of the last line, since remove_old() goes by it.
            os.utime(new.fileno(), ns=(os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns))
        journal.unlink()


def add_lines(directory: Path, day: str, lines: Iterable[Line]) -> None:
    """
    Add C{lines} to the journal of C{day} (C{yyyymmdd}).

    @raise OSError: not all of them are written.
    """
    _append(directory, day, b"".join(line.encode() for line in lines))


def rewrite(directory: Path, day: str, lines: Iterable[Line]) -> None:
    """
    Replace all that there is of the journal of C{day} (C{yyyymmdd}) by C{lines}, which may be read from it meanwhile.

    @raise OSError: the journal is as it was, or has lines twice.
    """
    with suppress(FileExistsError):
        directory.mkdir(0o700)
    journal = journal_path(directory, day)
    with _locked(journal, fcntl.LOCK_EX):
        with _replacing(journal) as new:
            new.writelines(line.encode() for line in lines)
        compressed_path(journal).unlink(missing_ok=True)


def _append(directory: Path, day: str, lines: bytes) -> None:
    journal = journal_path(directory, day)
    with _locked(journal, fcntl.LOCK_SH) as fd:
        if not _is_cut_off(fd):
            _write_all(fd, lines)
            return
    # The last line has no end. Either it was cut off, or another process is writing it now; this lock waits for that.
    with _locked(journal, fcntl.LOCK_EX) as fd:
        _write_all(fd, HEAL + lines if _is_cut_off(fd) else lines)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


@contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    """Yield a locked descriptor of the file at C{path}, made if it is missing, that nobody replaces meanwhile."""
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
    """Yield a new file, which then replaces that at C{path} and gets the owner of the directory."""
    new = path.with_name(f"{path.name}.tmp")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            yield file
            file.flush()
            owner = path.parent.stat()
            if owner.st_uid != os.geteuid():  # root may repair a journal that the daemon has to be able to write to.
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _is_cut_off(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size > 0 and os.pread(fd, 1, size - 1) != b"\n"


def _age(path: Path, now: datetime) -> float:
    """Return the seconds since something was added; 0 if the file is gone."""
    try:
        return now.timestamp() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _sync(path: Path) -> None:
    sync_and_close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
