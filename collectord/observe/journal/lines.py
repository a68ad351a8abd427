"""
The format of a journal, a text file with a line for each thing that happened to the crashes of one day; and reading it.

A line is C{<time>\\t<what>\\t<crash id>\\t<where>}, followed by C{\\t<rule>} if the crash was C{kept}. A few lines are
not about a crash: C{start} and C{stop} name a process, C{unclean} names one that ended without a stop and the time up
to which its lines are durable, C{lost} says how many lines could not be written. A journal may hold a line twice, and
may be damaged. That does no harm, for the stores are what counts.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

from collectord.model import CrashEvent
from collectord.observe.status import JournalEntry

OF_CRASHES: Final = frozenset({"kept", "moved", "published", "removed", "quarantined"})
"""Kinds of lines about a crash."""
OF_PROCESSES: Final = frozenset({"start", "stop", "unclean", "lost"})
"""Kinds of lines that are not about a crash."""

HEAL = b"\\\n"
"""Written after a line that was cut off. No whole line has a single backslash, so the line counts as damaged."""

_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
"""Characters that are written as escapes. A line that has one is damaged, as by zeros after a power cut."""

_LINE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z)\t([a-z]+)\t([^CONTROL]+)"
    r"(?:\t([^CONTROL]*)(?:\t([^CONTROL]*))?)?\n".replace("CONTROL", _CONTROL)
)
_UNFIT = re.compile(rf"[\\{_CONTROL}\ud800-\udfff]")
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")
_LONGEST = 65536
"""The most bytes of a line that are read. After a power cut there may be megabytes of zeros without an end of line."""
_BLOCK = 1024 * 1024

_Read = Callable[[BinaryIO], bytes]


class Line(NamedTuple):
    """
    One line of a journal. Its time is a text, which sorts as the times do.

    @ivar about: the crash id; in a line that is not about a crash the process, or the number of lost lines.
    """

    time: str
    kind: str
    about: str
    where: str = ""
    rule: str = ""

    @property
    def at(self) -> float:
        """The time, in seconds since the epoch."""
        return seconds_of(self.time)

    def encode(self) -> bytes:
        """Return the line as it is written, with its end."""
        fields = [self.time, self.kind, _escaped(self.about)]
        if self.where or self.rule:
            fields.append(_escaped(self.where))
        if self.rule:
            fields.append(_escaped(self.rule))
        return ("\t".join(fields) + "\n").encode()


def format_event(event: CrashEvent) -> str:
    """Return the line for C{event}, with its end."""
    line = f"{time_of(event.at)}\t{event.kind}\t{event.crash_id}\t{_escaped(event.where)}"
    rule = event.about.get("rule")
    return f"{line}\t{_escaped(str(rule))}\n" if rule else f"{line}\n"


def time_of(at: float) -> str:
    """Write a time, given in seconds since the epoch, as C{2016-06-22T15:19:49.123Z}."""
    seconds, milliseconds = divmod(round(at * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def seconds_of(time: str) -> float:
    """
    Read a time as L{time_of} writes it.

    @return: seconds since the epoch.
    @raise ValueError: it is no such time.
    """
    seconds = _epoch(time[:19])
    if seconds is None:
        raise ValueError(f"no time: {time!r}")
    return seconds + int(time[20:23]) / 1000


@lru_cache(maxsize=1024)
def _epoch(second: str) -> int | None:
    try:
        return int(datetime.strptime(f"{second}Z", "%Y-%m-%dT%H:%M:%S%z").timestamp())
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _escaped(text: str) -> str:
    return _UNFIT.sub(lambda unfit: f"\\u{ord(unfit[0]):04x}", text)


@lru_cache(maxsize=1024)
def _unescaped(text: str) -> str | None:
    if "\\" in _ESCAPE.sub("", text):
        return None
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)


def parse_line(line: bytes) -> Line | None:
    """
    Read one line of a journal.

    @param line: the line with its end.

    @return: None if the line is cut off, or damaged in another way.
    """
    try:
        found = _LINE.fullmatch(line.decode())
    except UnicodeDecodeError:
        return None
    if found is None:
        return None
    time, kind, about, where, rule = found.groups("")
    if (kind not in OF_CRASHES and kind not in OF_PROCESSES) or _epoch(time[:19]) is None:
        return None
    if "\\" in found[0]:
        texts = [_unescaped(text) for text in (about, where, rule)]
        return None if None in texts else Line(time, kind, *cast(list[str], texts))
    return Line(time, kind, about, where, rule)


def journal_of(directory: Path, day: str) -> Path:
    """Return the file to which the lines of a day (C{yyyymmdd}) are added."""
    return directory / f"{day}.journal"


def packed(journal: Path) -> Path:
    """Return the file in which the lines of C{journal} are once they are compressed. Both files may exist."""
    return journal.with_name(f"{journal.name}.gz")


def journal_day(crash_id: str) -> str:
    """Return the day, C{yyyymmdd}, in whose journal the lines of a crash are: the day that its id ends with."""
    return f"20{crash_id[-6:]}"


class Journal:
    """
    Reads the journal of one day, a line at a time. Reading blocks.

    @param day: C{yyyymmdd}.

    @ivar damaged: how many of the lines that were read could not be understood.
    """

    def __init__(self, directory: Path, day: str) -> None:
        self._path = journal_of(directory, day)
        self.damaged = 0

    def __iter__(self) -> Iterator[Line]:
        """
        Yield all lines that can be understood; none if there is no journal.

        @raise OSError: the journal is there and can't be read.
        """
        for pieces in self._files(lambda file: file.readline(_LONGEST)):
            for raw in pieces:
                text = raw.lstrip(b"\0")  # A good line may follow a block that a power cut left empty.
                line = parse_line(text)
                if line is None or len(text) < len(raw):
                    self.damaged += 1
                if line is not None:
                    yield line

    def about(self, crash_id: str) -> Iterator[Line]:
        """
        Yield the lines of one crash. This is much cheaper than to read all lines and choose.

        @raise OSError: the journal is there and can't be read.
        """
        sought = crash_id.encode()
        for pieces in self._files(lambda file: file.read(_BLOCK)):
            rest = b""
            for piece in pieces:
                block, end, rest = (rest[-_LONGEST:] + piece).rpartition(b"\n")
                if sought in block:
                    for raw in (block + end).splitlines(keepends=True):
                        line = parse_line(raw.lstrip(b"\0")) if sought in raw else None
                        if line is not None:
                            yield line

    def _files(self, read: _Read) -> tuple[Iterator[bytes], Iterator[bytes]]:
        """Return the contents of the compressed file, which has the older lines, and of the other."""
        return self._packed(read), self._plain(read)

    def _packed(self, read: _Read) -> Iterator[bytes]:
        try:
            with gzip.open(packed(self._path)) as file:
                yield from iter(partial(read, cast(BinaryIO, file)), b"")
        except FileNotFoundError:
            pass
        except (EOFError, gzip.BadGzipFile, zlib.error):  # The rest of the file can't be decompressed.
            self.damaged += 1

    def _plain(self, read: _Read) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                yield from iter(partial(read, file), b"")
        except FileNotFoundError:
            pass


def events_of(directory: Path, crash_id: str) -> list[JournalEntry]:
    """
    Return what happened to a crash, by the journals in C{directory}. This blocks.

    @raise OSError: they can't be read.
    """
    lines = Journal(directory, journal_day(crash_id)).about(crash_id)
    return [JournalEntry(at=line.at, what=line.kind, where=line.where) for line in dict.fromkeys(lines)]
