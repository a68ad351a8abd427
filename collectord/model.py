"""
The values that travel through collectord: a report as it came, and the crash that is made of it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from attrs import field, frozen

Annotations = Mapping[str, str]

RawCrash = Mapping[str, object]
"""A crash's annotations with what the collector adds to them; JSON-serializable. The design names its keys."""


MINIDUMP = "upload_file_minidump"
"""The name of the dump that every client sends."""

COLLECTOR_NAMES = frozenset(
    {
        "uuid",
        "submitted_timestamp",
        "version",
        "legacy_processing",
        "throttle_rate",
        "type_tag",
        "metadata",
    }
)
"""What the collector writes into a raw crash; a client's annotations of these names are left out."""


def metadata_of(raw_crash: RawCrash) -> Mapping[str, object]:
    """What the collector wrote into C{raw_crash}, or another did, or nobody."""
    metadata = raw_crash.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def checksums_in(raw_crash: RawCrash) -> Mapping[str, Any] | None:
    """The sha256 of each dump when it was received, by name; None: nobody knows, it is not collectord's."""
    checksums = metadata_of(raw_crash).get("dump_checksums")
    return checksums if isinstance(checksums, dict) else None


SENDER = "X-Collectord-Stores"
"""The header by which a relay names the markers of its stores."""


class Content(Protocol):
    """The bytes of a dump, wherever they lie."""

    def chunks(self) -> AsyncIterator[bytes]:
        """
        The bytes in order, in pieces of 1 MiB at most where they lie on disk.

        @raise StorageError: they can't be read.
        """


@frozen
class InMemory:
    """The bytes of a dump, in the pieces they came in."""

    pieces: Sequence[bytes] = field(repr=False)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


@frozen(kw_only=True)
class Dump:
    """
    One file of a report: a minidump, or whatever else the client attached.

    @ivar name: C{[A-Za-z0-9_]{1,30}}, unique within its crash.
    @ivar size: in bytes.
    @ivar sha256: of the content, in hex.
    """

    name: str
    size: int
    sha256: str
    content: Content = field(repr=False)


@frozen(kw_only=True)
class Payload:
    """
    How a report came.

    @ivar structure: C{"multipart"}, or C{"json"} where the annotations came as one JSON object.
    @ivar size: bytes on the wire.
    """

    structure: str
    compressed: bool
    size: int
    user_agent: str


@frozen(kw_only=True)
class CrashReport:
    """
    What a client sent, understood but not judged.

    @ivar notes: what was left out or changed, in words for whoever debugs a crash.
    @ivar bearer_token: from the C{Authorization} header, or empty.
    @ivar sender_stores: the markers of the stores that a relay takes it from.
    """

    annotations: Annotations = field(repr=False)
    dumps: Sequence[Dump]
    notes: Sequence[str]
    payload: Payload
    bearer_token: str = field(default="", repr=False)
    sender_stores: Sequence[str] = ()


@frozen(kw_only=True)
class Crash:
    """
    What is stored, and later moved: the same value in every place.

    @ivar fresh: its id was made just now, and no store can have it already.
    @ivar seen: how its source found it. It finds it otherwise once somebody else was told that it is there, or once
        another of its id is there; None: the source does not tell.
    """

    crash_id: str
    raw_crash: RawCrash = field(repr=False)
    dumps: Sequence[Dump]
    fresh: bool = field(default=False, eq=False)
    seen: tuple[int, ...] | None = field(default=None, eq=False, repr=False)


@frozen
class NewCrash:
    """
    A crash that a source holds and that was not moved yet.

    @ivar slot: where it was found, for its source alone.
    """

    crash_id: str
    slot: str = field(repr=False)


Step = Literal["kept", "moved", "published", "removed", "quarantined"]


@frozen(kw_only=True)
class CrashEvent:
    """
    What became of a crash.

    @ivar at: seconds since the epoch.
    @ivar kind: it is kept by a store; moved to a destination; published; removed from its store, for it was moved; or
        quarantined.
    @ivar where: the name of the store, destination or publisher.
    @ivar about: of a crash that is kept: product, version, size (bytes on the wire) and rule.
    """

    at: float
    crash_id: str
    kind: Step
    where: str
    about: Mapping[str, str | int] = {}
