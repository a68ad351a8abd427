"""
The values that the parts of collectord pass to each other: a report as it was received, the crash that is made of it,
and the events in its life.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from typing import Any, Final, Literal, Protocol, TypeVar

from attrs import field, frozen

from collectord.pieces import Pieces, ReaderAt

Annotations = Mapping[str, str]

RawCrash = Mapping[str, object]
"""What C{<id>.json} holds, as JSON: the annotations of a crash, and the keys of L{COLLECTOR_NAMES}."""


MINIDUMP = "upload_file_minidump"
"""The name of the dump that every client sends."""

MINIDUMP_BEGIN: Final = b"MDMP"
"""The first bytes of every minidump."""

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
"""The keys that the collector itself writes into a raw crash. A client's annotations get other ones."""


def metadata_of(raw_crash: RawCrash) -> Mapping[str, object]:
    """
    Return the C{metadata} of C{raw_crash}, where the collector notes how the report was received.

    @return: empty if there is none, or if another program wrote something there that is no JSON object.
    """
    metadata = raw_crash.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def checksums_in(raw_crash: RawCrash) -> Mapping[str, Any] | None:
    """
    Return the SHA-256 in hex that each dump had when it was received, by dump name.

    @return: None if the raw crash has no checksums, because another collector wrote it.
    """
    checksums = metadata_of(raw_crash).get("dump_checksums")
    return checksums if isinstance(checksums, dict) else None


SENDER = "X-Collectord-Stores"
"""The name of the header in which a collectord that relays crashes sends the ids of its stores."""

SENDER_NOTES = "X-Collectord-Notes"
"""The name of the header in which it sends the notes that it made itself when it received the crash: a list in JSON."""


T = TypeVar("T")


class Content(Protocol):
    """The bytes of a dump, which may lie in memory or in a file."""

    def chunks(self) -> AsyncIterator[bytes]:
        """
        Give the bytes in order. Pieces that are read from a disk have 1 MiB at most.

        @raise StorageError: they can't be read.
        """

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        """
        Call C{work} with the bytes where it may read them: on a thread if they are in a file. Return its result.

        @raise StorageError: they can't be read.
        """


@frozen
class InMemory:
    """The bytes of a dump in memory, in the pieces in which they were received."""

    pieces: Sequence[bytes] = field(repr=False)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        return work(Pieces(self.pieces))


@frozen(kw_only=True)
class Dump:
    """
    A dump is one file of a report: a minidump, or whatever else the client attached.

    @ivar name: C{[A-Za-z0-9_]{1,30}}, unique within its crash.
    @ivar size: in bytes.
    @ivar sha256: the checksum of the content, in hex.
    @ivar filename: the name that the file had at the client, if it said so when it sent the report.
    @ivar content_type: what the client said that the file is, with all parameters, if it did.
    @ivar is_minidump: whether it was received as a minidump, by its name or its first bytes.
    """

    name: str
    size: int
    sha256: str
    content: Content = field(repr=False)
    filename: str | None = field(default=None, eq=False)
    content_type: str | None = field(default=None, eq=False)
    is_minidump: bool = field(default=False, eq=False)


@frozen(kw_only=True)
class Payload:
    """
    A payload describes the request body that a report was received in.

    @ivar structure: C{"multipart"}; C{"json"} if the annotations were sent as one JSON object; C{"dump"}, nothing but a
        minidump; C{"envelope"}, one of Sentry's; C{"unreal"}, a container of Unreal Engine's.
    @ivar size: bytes on the wire.
    """

    structure: str
    compressed: bool
    size: int
    user_agent: str


NoteKind = Literal["renamed", "left_out", "cut", "replaced", "repaired"]
"""
What was done to a part of a report: it has another name than it was sent with; it is not in the crash; its end is not;
characters of it were replaced; or it was read although it was malformed.
"""


@frozen
class Note:
    """
    A note says what was left out or changed while a report was parsed.

    @ivar text: a sentence for an engineer who debugs the crash.
    """

    kind: NoteKind
    text: str


@frozen(kw_only=True)
class CrashReport:
    """
    A crash report is what one client sent, parsed, and before any throttle rule has looked at it.

    @ivar notes: what was left out or changed while it was parsed.
    @ivar bearer_token: of the C{Authorization} header; empty if it has none; None: no such header, no C{uuid} counts.
    @ivar sender_stores: if another collectord relays the crash: the ids of the stores that it moves crashes out of.
    @ivar sender_notes: what that one has left out or changed, in sentences.
    @ivar has_minidump: whether one of the dumps is a minidump, by its name or its first bytes, and is not empty.
    @ivar documents: the names of the dumps that its dialect reads. Where there is no minidump, the stack is in them.
    @ivar address: of the client; None: it is not known, or nobody asks for it. It is kept only if the settings say so.
    """

    annotations: Annotations = field(repr=False)
    dumps: Sequence[Dump]
    notes: Sequence[Note]
    payload: Payload
    bearer_token: str | None = field(default=None, repr=False)
    sender_stores: Sequence[str] = ()
    sender_notes: Sequence[str] = ()
    has_minidump: bool = False
    documents: Set[str] = frozenset()
    address: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class CrashFacts:
    """
    Crash facts say where a program crashed and which bug that probably is, as far as that can be known without symbols.

    They are of the minidump of a report, or, if it has none, of annotations; the throttle rules may use them.
    C{docs/fingerprints.rst} defines each of them.

    @ivar fingerprint: equal for crashes of the same bug, mostly: C{"1:"} and 16 hexadecimal digits; None if nothing
        that is known is of the application: then the crash is taken for no other.
    @ivar place: what crashed where, as far as it is the same in all crashes at one instruction: words with a space
        between them. Crashes at one place may have several fingerprints.
    @ivar cpu: C{"amd64"}, C{"arm64"}, C{"x86"} and so on; empty without a minidump, as all that follow.
    @ivar exception_code: in hexadecimal, as in C{"0xc0000005"}.
    @ivar exception_name: as in C{"ACCESS_VIOLATION_READ"} or C{"SIGSEGV"}; empty if the code is not known.
    @ivar module: the name of the file that the instruction is in; empty if it is in none.
    @ivar module_offset: of the instruction in that module, in hexadecimal.
    @ivar os: the name of the system and its version, as in C{"Windows 10.0.19045"}.
    @ivar uptime_s: for how many seconds the program had run; None: the minidump does not say.
    """

    fingerprint: str | None
    place: str
    cpu: str = ""
    exception_code: str = ""
    exception_name: str = ""
    module: str = ""
    module_offset: str = ""
    os: str = ""
    uptime_s: int | None = None

    def as_metadata(self) -> Mapping[str, object]:
        """Return what the C{metadata} of a raw crash says of them, as far as they are known."""
        known = {
            "fingerprint": self.fingerprint,
            "crash_place": self.place,
            "cpu": self.cpu,
            "exception_code": self.exception_code,
            "exception_name": self.exception_name,
            "module": self.module,
            "module_offset": self.module_offset,
            "os": self.os,
            "uptime_s": self.uptime_s,
        }
        return {name: value for name, value in known.items() if value not in ("", None)}


@frozen(kw_only=True)
class Crash:
    """
    A crash is what is stored, and later moved and published: its id, its raw crash and its dumps.

    @ivar fresh: whether its id was made by this process just now, so that no store can have this crash already.
    @ivar began: when its client began to send it, in seconds by the reactor's clock. None: it comes from no client.
    @ivar source_version: the version in which a source found the crash. It changes when another process acknowledges
        the same crash, and when another crash of this id takes its place. None: the source keeps no versions.
    """

    crash_id: str
    raw_crash: RawCrash = field(repr=False)
    dumps: Sequence[Dump]
    fresh: bool = field(default=False, eq=False)
    began: float | None = field(default=None, eq=False, repr=False)
    source_version: tuple[int, ...] | None = field(default=None, eq=False, repr=False)


@frozen(kw_only=True)
class FetchedCrash:
    """
    A fetched crash is what a destination has of a crash: the bytes of its raw crash, and of its dumps by their names.
    """

    raw_crash: bytes = field(repr=False)
    dumps: Mapping[str, bytes] = field(repr=False)


@frozen
class NewCrash:
    """
    A new crash lies in a source and has not been moved yet.

    @ivar slot: where the source found it. Only the source itself can use this.
    """

    crash_id: str
    slot: str = field(repr=False)


Step = Literal["kept", "duplicate", "moved", "published", "removed", "quarantined", "expired", "erased"]
"""
A step in the life of a crash. It is kept by a store, moved to a destination, published to a queue, removed from its
store because it was moved, or quarantined because it could not be read. It expires when its store has kept it for long
enough, and is erased by hand. A duplicate of it may come: the same report once more, which is not stored again.
"""


@frozen(kw_only=True)
class CrashEvent:
    """
    A crash event says that a crash has taken one step.

    @ivar at: seconds since the epoch.
    @ivar where: the name of the store, destination or publisher; empty for a duplicate.
    @ivar about: of a crash that is kept C{product}, C{version}, C{size} (bytes on the wire) and C{rule};
        C{digest} (32 hexadecimal digits) if a duplicate of it would be recognized; and where it crashed, if that is
        known, with C{annotations} and C{minidump}, as L{about_kept<collectord.telling.about_kept>} makes them;
        C{details} as L{kept_details<collectord.stepdetails.kept_details>} writes them. Of one that is moved or
        published C{details}, as L{sent_details<collectord.stepdetails.sent_details>} writes them, and C{place}: where
        it lies, if that is known, or the queue, if it is not the usual one. Of one that is quarantined C{place}, the
        reason; of one that expired C{place}, the setting that wanted it so; else empty.
    """

    at: float
    crash_id: str
    kind: Step
    where: str
    about: Mapping[str, str | int] = {}
