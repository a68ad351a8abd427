r"""
The format of a journal, a text file with a line for each thing that happened to the crashes of one day.

A line has the fields of L{Line}, with tabs between, and without the empty ones at its end. One of each sort, with
spaces for the tabs, and the end of the first cut::

    2016-06-22T15:19:49.123Z  kept         8f63752c-57c6-4e5d-b2cf-cabde2160622  /srv/crashes  accept_all  …
    2016-06-22T15:19:50.017Z  duplicate    8f63752c-57c6-4e5d-b2cf-cabde2160622
    2016-06-22T15:19:50.301Z  moved        8f63752c-57c6-4e5d-b2cf-cabde2160622  s3 crashes
    2016-06-22T15:19:50.355Z  published    8f63752c-57c6-4e5d-b2cf-cabde2160622  redis socorro.standard
    2016-06-22T15:19:50.402Z  removed      8f63752c-57c6-4e5d-b2cf-cabde2160622  /srv/crashes
    2016-06-22T15:19:50.633Z  quarantined  8f63aaaa-57c6-4e5d-b2cf-cabde2160622  /srv/crashes
    2016-07-23T00:04:11.105Z  expired      8f63bbbb-57c6-4e5d-b2cf-cabde2160622  /srv/crashes  …  keep_days
    2016-07-24T09:30:00.000Z  erased       8f63bbbb-57c6-4e5d-b2cf-cabde2160622  s3 crashes
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

All of it may run on any thread; nothing here blocks.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, cast

from collectord.model import CrashEvent

CRASH_KINDS: Final = frozenset(
    {"kept", "duplicate", "moved", "published", "removed", "quarantined", "expired", "erased"}
)
"""Kinds of lines about a crash."""
PROCESS_KINDS: Final = frozenset({"start", "stop", "unclean", "lost"})
"""Kinds of lines that are not about a crash."""

JOURNAL: Final = re.compile(r"[0-9]{8}\.journal(\.gz)?")
"""The name of a journal."""

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
    r"(?:\t([^CONTROL]*)(?:\t([^CONTROL]*)(?:\t([0-9a-f]{32})?"
    r"(?:\t([^CONTROL]*)(?:\t([^CONTROL]*)(?:\t([0-9]*)(?:\t([^CONTROL]*)"
    r"(?:\t([^CONTROL]*)(?:\t([^CONTROL]*)(?:\t([^CONTROL]*)(?:\t([^CONTROL]*)(?:\t([^CONTROL]*)(?:\t([0-9]*)(?:\t([^CONTROL]*))?)?)?)?)?)?)?"
    r")?)?)?)?)?)?)?\n".replace("CONTROL", _CONTROL)
)
"""A whole line, with the fields of L{Line}."""
_UNFIT = re.compile(rf"[\\{_CONTROL}\ud800-\udfff]")
"""A character that is written as an escape: the backslash, control characters, and what UTF-8 can't encode."""
_FACTS = ("fingerprint", "crash_place", "exception", "cpu", "os", "uptime_s")
_NO_FACTS = ("",) * len(_FACTS)
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


class Line(NamedTuple):
    """
    One line of a journal.

    @ivar time: as L{time_of} writes it; these texts sort as the times do.
    @ivar kind: one of L{CRASH_KINDS} or L{PROCESS_KINDS}.
    @ivar subject: the crash id; in a line that is not about a crash the process, or the number of lost lines.
    @ivar where: the store, destination or publisher; in an C{unclean} line the time up to which lines are durable.
    @ivar rule: the throttle rule by which a crash was C{kept}.
    @ivar digest: of the report of a crash that was C{kept}, in hexadecimal: its duplicates have the same.
    @ivar product: of a crash that was C{kept}, as C{version} and C{size}: the bytes of its report on the wire.
    @ivar place: where a crash that was C{moved} lies at the destination, if it says so; in which queue the id is that
        was C{published}, if it is not in the usual one; why one was C{quarantined}; of one that C{expired}, the
        setting that wanted it so.
    @ivar fingerprint: of a crash that was C{kept}, as all that follow: as L{CrashFacts<collectord.model.CrashFacts>}
        has them, if they are known. C{exception} is the name of the exception, or its code.
    @ivar details: of a crash that was C{kept}, C{moved} or C{published}: see L{collectord.stepdetails}.
    """

    time: str
    kind: str
    subject: str
    where: str = ""
    rule: str = ""
    digest: str = ""
    product: str = ""
    version: str = ""
    size: str = ""
    place: str = ""
    fingerprint: str = ""
    crash_place: str = ""
    exception: str = ""
    cpu: str = ""
    os: str = ""
    uptime_s: str = ""
    details: str = ""

    @property
    def at(self) -> float:
        """The time, in seconds since the epoch."""
        return seconds_of(self.time)

    def at_place(self, where: str) -> "Line":
        """Return the same line of another store, destination or publisher."""
        return Line(*self[:3], where, *self[4:])

    def encode(self) -> bytes:
        """Return the line as it is written, with its end."""
        subject, where, rule = _escaped(self.subject), _escaped(self.where), _escaped(self.rule)
        product, version = _escaped(self.product), _escaped(self.version)
        about = (rule, self.digest, product, version, self.size, _escape(self.place))
        facts = (_escape(self.crash_place), _escaped(self.exception), _escaped(self.cpu), _escaped(self.os))
        return _joined(
            *(self.time, self.kind, subject, where, *about, _escaped(self.fingerprint), *facts, self.uptime_s),
            _escape(self.details),
        ).encode()


def format_event(event: CrashEvent) -> str:
    """
    Return the line for C{event}, with its end.

    This is L{Line.encode} for the many lines about crashes: a crash id needs no escapes, and no place in their cache.
    """
    about = event.about
    return _joined(
        time_of(event.at),
        event.kind,
        event.crash_id,
        _escaped(event.where),
        _escaped(str(about.get("rule") or "")),
        str(about.get("digest") or ""),
        _escaped(str(about.get("product") or "")),
        _escaped(str(about.get("version") or "")),
        str(about.get("size") or ""),
        _escape(str(about.get("place") or "")),
        *(_facts_in(about) if "fingerprint" in about else _NO_FACTS),
        str(about.get("details") or ""),
    )


def _facts_in(about: Mapping[str, str | int]) -> Iterator[str]:
    for name in _FACTS:
        yield _escaped(str(about.get(name, "")))


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


def _escape(text: str) -> str:
    return _UNFIT.sub(lambda unfit: f"\\u{ord(unfit[0]):04x}", text)


# There are only a few stores, destinations, publishers, rules and products, so their escapes stay in the cache.
_escaped = lru_cache(maxsize=1024)(_escape)


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
    time, kind, subject, *about = found.groups("")
    if (kind not in CRASH_KINDS and kind not in PROCESS_KINDS) or _epoch_seconds(time[:19]) is None:
        return None
    if "\\" in found[0]:
        texts = [_unescaped(text) for text in (subject, *about)]
        if None in texts:
            return None
        subject, *about = cast(list[str], texts)
    return Line(time, kind, subject, *about)


def journal_path(directory: Path, day: str) -> Path:
    """Return the file to which the lines of a day (C{yyyymmdd}) are added."""
    return directory / f"{day}.journal"


def compressed_path(journal: Path) -> Path:
    """Return the file in which the lines of C{journal} are once they are compressed. Both files may exist."""
    return journal.with_name(f"{journal.name}.gz")


def journal_day(crash_id: str) -> str:
    """Return the day, C{yyyymmdd}, in whose journal the lines of a crash are: the day that its id ends with."""
    return f"20{crash_id[-6:]}"
