"""
One crash as a value: what its page of the admin port shows.
"""

from collections.abc import Mapping, Sequence

from attrs import field, frozen


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


@frozen(kw_only=True)
class CrashLocation:
    """
    A store or destination that has a crash.

    @ivar store: its root, or the place at a destination.
    @ivar state: C{waits to be moved}, C{stays}, C{was moved there}, or C{in the quarantine: <reason>}.
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


@frozen(kw_only=True)
class CrashPage:
    """
    All that is known of one crash.

    @ivar annotations: as they were kept; None: they are not here. They come from a client, so whoever shows them has to
        escape them.
    @ivar facts: what the collector itself wrote into the raw crash, and the metadata.
    @ivar places: the stores that have it.
    @ivar events: what happened to it, by the journal.
    """

    crash_id: str
    annotations: Mapping[str, str] | None = field(repr=False)
    facts: Mapping[str, str] = field(repr=False)
    dumps: Sequence[DumpFile]
    places: Sequence[CrashLocation]
    events: Sequence[JournalEntry]


def facts_of(events: Sequence[JournalEntry]) -> Mapping[str, str]:
    """Return what a journal says of a crash that was kept, for one whose raw crash is not here."""
    kept = next((event for event in events if event.what == "kept"), None)
    if kept is None:
        return {}
    size = "" if kept.size is None else str(kept.size)
    facts = {"ProductName": kept.product, "Version": kept.version, "payload_size": size, "throttle_rule": kept.rule}
    return {name: value for name, value in facts.items() if value}


def moved_to(events: Sequence[JournalEntry]) -> Sequence[CrashLocation]:
    """Return where a crash was moved to, by a journal."""
    places = {event.where: event.place or event.where for event in events if event.what == "moved"}
    return [CrashLocation(store=place, state="was moved there") for place in places.values()]
