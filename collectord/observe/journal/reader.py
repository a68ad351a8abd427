"""
Reads the journal of a day: both of its files, plain and compressed, and past any damage.

All of it blocks, so it must not run on the reactor thread.
"""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from collectord.observe.crashpage import JournalEntry
from collectord.observe.journal.lines import (
    CRASH_KINDS,
    JOURNAL,
    Line,
    compressed_path,
    journal_day,
    journal_path,
    parse_line,
    time_of,
)
from collectord.stepdetails import read_details

_LONGEST = 65536
"""
The most bytes of a line that are kept while its end is sought: its last ones, since a good line may follow zeros. After
a power cut there may be megabytes of zeros without an end of line.
"""
_BLOCK = 1024 * 1024
"""The most bytes that are read at once."""


class Journal:
    """
    Reads the journal of one day, a line at a time.

    @param day: C{yyyymmdd}.

    @ivar directory: where it lies.
    @ivar damaged: how many places of damage were found by iterating: lines that can't be understood, runs of zeros, and
        a compressed file that can't be decompressed to its end.
    """

    def __init__(self, directory: Path, day: str) -> None:
        self.directory = directory
        self._path = journal_path(directory, day)
        self.damaged = 0

    def __iter__(self) -> Iterator[Line]:
        """
        Yield all lines that can be understood; none if there is no journal.

        @raise OSError: the journal is there and can't be read.
        """
        for block in self._blocks():
            for raw in io.BytesIO(block):
                line = parse_line(_without_zeros(raw))
                if line is None or raw.startswith(b"\0"):
                    self.damaged += 1
                if line is not None:
                    yield line

    def lines_about(self, crash_id: str) -> Iterator[Line]:
        """
        Yield the lines of one crash. This is much cheaper than to read all lines and choose.

        @raise OSError: the journal is there and can't be read.
        """
        sought = crash_id.encode()
        for block in self._blocks():
            if sought in block:
                for raw in io.BytesIO(block):
                    line = parse_line(_without_zeros(raw)) if sought in raw else None
                    if line is not None and line.subject == crash_id:
                        yield line

    def _blocks(self) -> Iterator[bytes]:
        """Yield the journal in blocks of whole lines, the compressed lines first, since they are older."""
        with ExitStack() as stack:
            compressed, plain = self._open(stack)
            try:
                yield from _whole_lines(gzip.GzipFile(fileobj=compressed, mode="rb"))
            except (EOFError, gzip.BadGzipFile, zlib.error):  # The rest of the file can't be decompressed.
                self.damaged += 1
            yield from _whole_lines(plain)

    def _open(self, stack: ExitStack) -> tuple[io.BufferedIOBase, io.BufferedIOBase]:
        """
        Open the compressed file and the plain one. One that does not exist reads as an empty file.

        Another process may compress or rewrite the journal meanwhile: it puts all lines into one of the two files, and
        then removes the other. If the plain file is still there after both were opened, nothing was removed between.
        Then no line is missing; at worst the two files have the same lines, and they are read twice.
        """
        while True:
            plain = stack.enter_context(_open_if_there(self._path))
            compressed = stack.enter_context(_open_if_there(compressed_path(self._path)))
            if _is_still_at(self._path, plain):
                return compressed, plain
            stack.close()


def _open_if_there(path: Path) -> io.BufferedIOBase:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return io.BytesIO()


def _is_still_at(path: Path, file: io.BufferedIOBase) -> bool:
    """Whether C{file}, from L{_open_if_there}, is what that would open now."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return isinstance(file, io.BytesIO)
    return not isinstance(file, io.BytesIO) and os.path.samestat(found, os.fstat(file.fileno()))


def _whole_lines(file: io.BufferedIOBase) -> Iterator[bytes]:
    """Yield the content of a file in blocks that end where a line ends, except for the last one."""
    rest = b""
    # read1() returns what was decompressed before a place of damage; read() would drop it.
    while piece := file.read1(_BLOCK):
        lines, end, rest = (rest[-_LONGEST:] + piece).rpartition(b"\n")
        yield lines + end
    yield rest


def _without_zeros(raw: bytes) -> bytes:
    """Return a line without the zeros before it: after a power cut, a block of zeros may stand before a good line."""
    return raw.lstrip(b"\0")


def events_of(directory: Path, crash_id: str) -> list[JournalEntry]:
    """
    Return what happened to a crash, by the journals in C{directory}.

    @param crash_id: a valid one: the name of the journal is made of it.

    @raise OSError: they can't be read.
    """
    lines = Journal(directory, journal_day(crash_id)).lines_about(crash_id)
    return [
        JournalEntry(
            at=line.at,
            what=line.kind,
            where=line.where,
            place=line.place,
            rule=line.rule,
            product=line.product,
            version=line.version,
            size=int(line.size) if line.size else None,
            fingerprint=line.fingerprint,
            crash_place=line.crash_place,
            exception=line.exception,
            cpu=line.cpu,
            os=line.os,
            uptime_s=int(line.uptime_s) if line.uptime_s else None,
            details=read_details(line.details),
        )
        for line in dict.fromkeys(lines)
    ]


def lines_since(directory: Path, since: float, now: datetime) -> Iterator[Line]:
    """
    Yield the lines about what happened from a time on, in the order in which they were written.

    It reads the ends of the journals that are not compressed, so it is for times that are no more than a day ago. Lines
    are almost in the order of their times: what stands before a block that begins with an older line is not read.

    @param since: in seconds since the epoch.
    @param now: the current time in UTC.

    @raise OSError: a journal can't be read.
    """
    first = datetime.fromtimestamp(since, UTC).date()
    earliest = time_of(since)
    for number in range((now.date() - first).days + 1):
        day = f"{first + timedelta(days=number):%Y%m%d}"
        yield from _end_of(journal_path(directory, day), earliest)


def changed_lines(directory: Path, since: float) -> Iterator[Line]:
    """
    Yield the lines about crashes that were written from a time on, those of the newest journals first. Lines of one
    journal come in the order in which they were written.

    Unlike L{lines_since} it also reads journals that are compressed, and those of earlier days.

    @param since: in seconds since the epoch.

    @raise OSError: a journal can't be read.
    """
    earliest = time_of(since)
    days = {name[:8] for name in os.listdir(directory) if JOURNAL.fullmatch(name)} if directory.is_dir() else set()
    for day in sorted(days, reverse=True):
        journal = journal_path(directory, day)
        if _was_changed(compressed_path(journal), since):
            lines = iter(Journal(directory, day))
        elif _was_changed(journal, since):
            lines = _end_of(journal, earliest)
        else:
            continue
        yield from (line for line in lines if line.kind in CRASH_KINDS and line.time >= earliest)


def _was_changed(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since
    except FileNotFoundError:
        return False


def _end_of(journal: Path, earliest: str) -> Iterator[Line]:
    with suppress(FileNotFoundError), journal.open("rb") as file:
        file.seek(_start_of(file, earliest))
        yield from _lines_from(file, earliest)


def _lines_from(file: io.BufferedReader, earliest: str) -> Iterator[Line]:
    for block in _whole_lines(file):
        for raw in io.BytesIO(block):
            line = parse_line(_without_zeros(raw))
            if line is not None and line.time >= earliest:
                yield line


def _start_of(file: io.BufferedReader, earliest: str) -> int:
    """Return where the last block of a journal begins whose first line is older than C{earliest}; 0: none does."""
    start = file.seek(0, os.SEEK_END)
    while start > 0:
        start = max(0, start - _BLOCK)
        file.seek(start)
        lines = filter(None, map(parse_line, io.BytesIO(file.read(_BLOCK))))
        line = next(lines, None)  # The first whole one: the block may begin within a line.
        if line is not None and line.time < earliest:
            break
    return start
