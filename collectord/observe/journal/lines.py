r"""
The format of a journal, a text file with a line for each thing that happened to the crashes of one day; and reading it.

A line is C{<time>\t<kind>\t<subject>\t<where>\t<rule>}, without the empty fields at its end. One of each sort, with
spaces for the tabs::

    2016-06-22T15:19:49.123Z  kept         8f63752c-57c6-4e5d-b2cf-cabde2160622  /srv/crashes  accept_all
    2016-06-22T15:19:50.301Z  moved        8f63752c-57c6-4e5d-b2cf-cabde2160622  s3 crashes
    2016-06-22T15:19:50.355Z  published    8f63752c-57c6-4e5d-b2cf-cabde2160622  redis socorro.standard
    2016-06-22T15:19:50.402Z  removed      8f63752c-57c6-4e5d-b2cf-cabde2160622  /srv/crashes
    2016-06-22T15:19:50.633Z  quarantined  8f63aaaa-57c6-4e5d-b2cf-cabde2160622  /srv/crashes
    2016-06-22T16:00:00.000Z  start        host-4711-0a1b2c3d
    2016-06-22T17:00:00.000Z  stop         host-4711-0a1b2c3d
    2016-06-22T16:00:00.000Z  unclean      host-4710-9f8e7d6c  2016-06-22T15:59:10.000Z
    2016-06-22T16:00:00.000Z  lost         12

The subject of a line about a crash is the crash id, and such a line is in the journal of the day that the id ends with,
even if it is written on a later day. C{where} is the store (its root), the destination or the publisher. C{start} and
C{stop} are in the journal of the day on which they happen; their subject is a process. C{unclean} names a process that
ended without a stop; its C{where} is the time up to which the lines of that process are durable. The line is in the
journal of the day of that time, and in that of the day on which another process noticed it. C{lost} says how many lines
about crashes of this day could not be written.

A journal may hold a line twice, and may be damaged. That does no harm, for the stores are what counts.

Formatting and parsing may run on any thread. Reading a journal blocks, so it must not run on the reactor thread.
"""

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, cast

from collectord.model import CrashEvent
from collectord.observe.status import JournalEntry

CRASH_KINDS: Final = frozenset({"kept", "moved", "published", "removed", "quarantined"})
"""Kinds of lines about a crash."""
PROCESS_KINDS: Final = frozenset({"start", "stop", "unclean", "lost"})
"""Kinds of lines that are not about a crash."""

HEAL = b"\\\n"
"""
Ends a line that was cut off, such as by a full disk. A process that adds lines to a file writes it first if the last
line there has no end; compressing writes it after such a line. In a whole line each backslash begins an escape, such as
C{\\u0009}, so a line that ends with a backslash counts as damaged.
"""

_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
"""
Control characters and the ends of lines of Unicode, as a part of a character class. They are written as escapes, so a
line that has one of them is damaged, as by zeros after a power cut.
"""
_LINE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z)\t([a-z]+)\t([^CONTROL]+)"
    r"(?:\t([^CONTROL]*)(?:\t([^CONTROL]*))?)?\n".replace("CONTROL", _CONTROL)
)
"""A whole line: time, kind, subject, where, rule."""
_UNFIT = re.compile(rf"[\\{_CONTROL}\ud800-\udfff]")
"""A character that is written as an escape: the backslash, control characters, and what UTF-8 can't encode."""
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")
_LONGEST = 65536
"""
The most bytes of a line that are kept while its end is sought: its last ones, since a good line may follow zeros. After
a power cut there may be megabytes of zeros without an end of line.
"""
_BLOCK = 1024 * 1024
"""The most bytes that are read at once."""


class Line(NamedTuple):
    """
    One line of a journal.

    @ivar time: as L{time_of} writes it; these texts sort as the times do.
    @ivar kind: one of L{CRASH_KINDS} or L{PROCESS_KINDS}.
    @ivar subject: the crash id; in a line that is not about a crash the process, or the number of lost lines.
    @ivar where: the store, destination or publisher; in an C{unclean} line the time up to which lines are durable.
    @ivar rule: the throttle rule by which a crash was C{kept}.
    """

    time: str
    kind: str
    subject: str
    where: str = ""
    rule: str = ""

    @property
    def at(self) -> float:
        """The time, in seconds since the epoch."""
        return seconds_of(self.time)

    def encode(self) -> bytes:
        """Return the line as it is written, with its end."""
        return _joined(self.time, self.kind, _escaped(self.subject), _escaped(self.where), _escaped(self.rule)).encode()


def format_event(event: CrashEvent) -> str:
    """
    Return the line for C{event}, with its end.

    This is L{Line.encode} for the many lines about crashes: a crash id needs no escapes, and no place in their cache.
    """
    rule = str(event.about.get("rule") or "")
    return _joined(time_of(event.at), event.kind, event.crash_id, _escaped(event.where), _escaped(rule))


def _joined(*fields: str) -> str:
    # Escaped fields have no tabs, so the tabs at the end separate empty fields.
    return "\t".join(fields).rstrip("\t") + "\n"


def time_of(at: float) -> str:
    """Write a time, given in seconds since the epoch, as C{2016-06-22T15:19:49.123Z}."""
    seconds, milliseconds = divmod(round(at * 1000), 1000)
    return f"{_utc_text(seconds)}.{milliseconds:03d}Z"


# Successive lines are mostly of the same few seconds when they are written, and of the same minutes when they are read.
@lru_cache(maxsize=64)
def _utc_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def seconds_of(time: str) -> float:
    """
    Read a time as L{time_of} writes it.

    @return: seconds since the epoch.
    @raise ValueError: it is no such time.
    """
    seconds = _epoch_seconds(time[:19])
    if seconds is None:
        raise ValueError(f"no time: {time!r}")
    return seconds + int(time[20:23]) / 1000


@lru_cache(maxsize=1024)
def _epoch_seconds(text: str) -> int | None:
    """The seconds since the epoch of a time without its milliseconds; None: it is no time."""
    try:
        return int(datetime.strptime(f"{text}Z", "%Y-%m-%dT%H:%M:%S%z").timestamp())
    except ValueError:
        return None


# There are only a few stores, destinations, publishers and rules, so their escapes stay in the cache.
@lru_cache(maxsize=1024)
def _escaped(text: str) -> str:
    return _UNFIT.sub(lambda unfit: f"\\u{ord(unfit[0]):04x}", text)


@lru_cache(maxsize=1024)
def _unescaped(text: str) -> str | None:
    """Undo L{_escaped}; None: a backslash begins no escape."""
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
    time, kind, subject, where, rule = found.groups("")
    if (kind not in CRASH_KINDS and kind not in PROCESS_KINDS) or _epoch_seconds(time[:19]) is None:
        return None
    if "\\" in found[0]:
        texts = [_unescaped(text) for text in (subject, where, rule)]
        return None if None in texts else Line(time, kind, *cast(list[str], texts))
    return Line(time, kind, subject, where, rule)


def journal_path(directory: Path, day: str) -> Path:
    """Return the file to which the lines of a day (C{yyyymmdd}) are added."""
    return directory / f"{day}.journal"


def compressed_path(journal: Path) -> Path:
    """Return the file in which the lines of C{journal} are once they are compressed. Both files may exist."""
    return journal.with_name(f"{journal.name}.gz")


def journal_day(crash_id: str) -> str:
    """Return the day, C{yyyymmdd}, in whose journal the lines of a crash are: the day that its id ends with."""
    return f"20{crash_id[-6:]}"


class Journal:
    """
    Reads the journal of one day, a line at a time. Reading blocks.

    @param day: C{yyyymmdd}.

    @ivar damaged: how many places of damage were found by iterating: lines that can't be understood, runs of zeros, and
        a compressed file that can't be decompressed to its end.
    """

    def __init__(self, directory: Path, day: str) -> None:
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
    Return what happened to a crash, by the journals in C{directory}. This blocks.

    @param crash_id: a valid one: the name of the journal is made of it.

    @raise OSError: they can't be read.
    """
    lines = Journal(directory, journal_day(crash_id)).lines_about(crash_id)
    return [JournalEntry(at=line.at, what=line.kind, where=line.where) for line in dict.fromkeys(lines)]
