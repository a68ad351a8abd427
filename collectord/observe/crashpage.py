"""
One crash as a value: what its page of the admin port shows.
"""

from collections.abc import Mapping, Sequence

from attrs import field, frozen


@frozen(kw_only=True)
class DumpFile:
    """
    One dump of a crash.

    @ivar size: in bytes.
    @ivar expected: its SHA-256 by the raw crash, in hexadecimal; empty if the raw crash has none.
    """

    name: str
    size: int
    expected: str


@frozen(kw_only=True)
class CrashLocation:
    """
    A store that has a crash.

    @ivar state: C{waits to be moved}, C{stays}, or C{in the quarantine: <reason>}.
    """

    store: str
    state: str


@frozen(kw_only=True)
class JournalEntry:
    """
    Something that happened to a crash.

    @ivar at: when, in seconds since the epoch.
    @ivar what: C{kept}, C{moved}, C{published}, C{removed} or C{quarantined}.
    @ivar where: the store or sink in which it happened.
    """

    at: float
    what: str
    where: str


@frozen(kw_only=True)
class CrashPage:
    """
    All that is known of one crash.

    @ivar annotations: as they were kept. They come from a client, so whoever shows them has to escape them.
    @ivar facts: what the collector itself wrote into the raw crash, and the metadata.
    @ivar places: the stores that have it.
    @ivar events: what happened to it, by the journal.
    """

    crash_id: str
    annotations: Mapping[str, str] = field(repr=False)
    facts: Mapping[str, str] = field(repr=False)
    dumps: Sequence[DumpFile]
    places: Sequence[CrashLocation]
    events: Sequence[JournalEntry]
