"""
One crash as a value: what its page of the admin port shows.
"""

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from collectord.stepdetails import MINIDUMP_KIND, NO_DETAILS, DumpTold, StepDetails


@frozen(kw_only=True)
class DumpFile:
    """
    One dump of a crash.

    @ivar size: in bytes; None: not known.
    @ivar expected: its SHA-256 by the raw crash, in hexadecimal; empty if the raw crash has none.
    @ivar kind: what it is, in words; empty if that is not known.
    @ivar sent_as: the name that its file had at the client, and what the client said that it is, as far as it said so.
    @ivar is_whole: whether its bytes are those that were received; None: that is not known.
    @ivar problem: why it can't be read; empty if it can.
    """

    name: str
    size: int | None
    expected: str
    kind: str = ""
    sent_as: str = ""
    is_whole: bool | None = None
    problem: str = ""


MOVED_THERE = "was moved there"
"""The state of a crash at a destination that has got it."""

LEFT = "was moved there, and left"
"""The state of a crash at a destination that was looked at, and does not have it any more."""


@frozen(kw_only=True)
class CrashLocation:
    """
    A store or destination that has a crash.

    @ivar store: its root, or the place at a destination.
    @ivar state: C{waits to be moved}, C{stays}, C{in the quarantine: <reason>}, L{MOVED_THERE} or L{LEFT}.
    """

    store: str
    state: str


@frozen(kw_only=True)
class JournalEntry:
    """
    Something that happened to a crash.

    @ivar at: when, in seconds since the epoch.
    @ivar what: C{kept}, C{moved}, C{published}, C{removed}, C{quarantined}, C{expired} or C{erased}.
    @ivar where: the store or sink in which it happened.
    @ivar place: where the crash lies there, if it was C{moved} and that is known; why it was C{quarantined}; the
        setting by which it C{expired}.
    @ivar rule: by which it was C{kept}.
    @ivar product: of a crash that was C{kept}, as C{version}; they come from a client.
    @ivar size: bytes of its report on the wire, if that is known.
    @ivar fingerprint: of a crash that was C{kept}, as all that follow: as L{CrashFacts<collectord.model.CrashFacts>}
        has them, if they are known. C{exception} is the name of the exception, or its code.
    @ivar details: how long it took, and more.
    """

    at: float
    what: str
    where: str
    place: str = ""
    rule: str = ""
    product: str = ""
    version: str = ""
    size: int | None = None
    fingerprint: str = ""
    crash_place: str = ""
    exception: str = ""
    cpu: str = ""
    os: str = ""
    uptime_s: int | None = None
    details: StepDetails = NO_DETAILS


@frozen(kw_only=True)
class CrashPage:
    """
    All that is known of one crash.

    @ivar annotations: as they were kept; None: they are not here. They come from a client, so whoever shows them has to
        escape them.
    @ivar facts: what the collector itself wrote into the raw crash, and the metadata.
    @ivar dumps: those that it has, or, if it is not here, those that were received, as far as that is known.
    @ivar places: the stores that have it.
    @ivar events: what happened to it, by the journal, the oldest first.
    @ivar told_until: until when the journal keeps that, or longer, in seconds since the epoch; None: that is not known.
    @ivar not_asked: which places could not be looked at, and why; empty if it was looked for everywhere.
    """

    crash_id: str
    annotations: Mapping[str, str] | None = field(repr=False)
    facts: Mapping[str, str] = field(repr=False)
    dumps: Sequence[DumpFile]
    places: Sequence[CrashLocation]
    events: Sequence[JournalEntry]
    told_until: float | None = None
    not_asked: str = ""

    @property
    def moved_to(self) -> Sequence[str]:
        """The destinations that have got it; our own stores are none, though crashes are moved between these, too."""
        places = {place.store for place in self.places if place.state in (MOVED_THERE, LEFT)}
        moved = [event.where for event in self.events if event.what == "moved"]
        names = [event.where for event in self.events if event.what == "moved" and places & {event.where, event.place}]
        return list(dict.fromkeys(names if moved else places))

    @property
    def erased(self) -> JournalEntry | None:
        """When it was erased; None: it was not."""
        return next((event for event in reversed(self.events) if event.what == "erased"), None)


def kept_event(events: Sequence[JournalEntry]) -> JournalEntry | None:
    """Return what says that a crash was kept; None: nothing does."""
    return next((event for event in events if event.what == "kept"), None)


def facts_of(events: Sequence[JournalEntry]) -> Mapping[str, str]:
    """Return what a journal says of a crash that was kept, for one whose raw crash is not here."""
    kept = kept_event(events)
    if kept is None:
        return {}
    seen, of_these = kept.details.seen, kept.details.kept
    facts = {
        "ProductName": kept.product,
        "Version": kept.version,
        "payload_size": _known(kept.size),
        "throttle_rule": kept.rule,
        "sampled": "" if seen is None or of_these is None else sampled_in_words(seen, of_these),
        "fingerprint": kept.fingerprint,
        "crash_place": kept.crash_place,
        "exception_name": kept.exception,
        "cpu": kept.cpu,
        "os": kept.os,
        "uptime_s": _known(kept.uptime_s),
    }
    return {name: value for name, value in facts.items() if value}


def sampled_in_words(seen: int, kept: int) -> str:
    """Say how many reports of its kind a rule with a rate had seen and kept with this one."""
    return f"seen {seen}, kept {kept}"


def _known(number: int | None) -> str:
    return "" if number is None else str(number)


def dumps_of(events: Sequence[JournalEntry]) -> Sequence[DumpFile]:
    """Return the dumps that a crash was received with, by a journal, for one whose dumps are not here."""
    kept = kept_event(events)
    return [] if kept is None else [_received(dump) for dump in kept.details.dumps]


def _received(dump: DumpTold) -> DumpFile:
    if dump.kind == MINIDUMP_KIND:
        return DumpFile(name=dump.name, size=dump.size, expected="", kind="minidump, by its name or first bytes")
    return DumpFile(name=dump.name, size=dump.size, expected="", sent_as=dump.kind)


def moved_to(events: Sequence[JournalEntry]) -> Sequence[CrashLocation]:
    """Return where a crash was moved to, by a journal."""
    places = {event.where: event.place or event.where for event in events if event.what == "moved"}
    return [CrashLocation(store=place, state=MOVED_THERE) for place in places.values()]
