"""
What the index answers, as values: crashes, and how often they were seen.

All times are seconds since the epoch. All texts come from clients, so whoever shows them has to escape them. What is
not known is None or empty, never 0.
"""

from collections.abc import Sequence
from typing import Literal

from attrs import field, frozen

CrashState = Literal["kept", "moved", "quarantined", "expired", "removed", "erased"]
"""
What became of a crash: it is in a store, was moved to a destination, is in the quarantine of a store, expired, was
removed from its store without any of that, or was erased.
"""

TopOrder = Literal["hour", "day", "rising", "new"]
"""
How fingerprints are sorted: by how often they were seen in the last hour, or in the last 24 hours; by how much more
often in the last hour than in one of the 23 hours before it; or those first seen within 24 hours, most seen first.
"""


@frozen(kw_only=True)
class IndexedCrash:
    """
    One crash, as the index knows it.

    @ivar at: when it was kept.
    @ivar fingerprint: which bug it probably is, as C{1:} and 16 digits; empty if it has none.
    @ivar place: where it crashed, as words.
    @ivar exception: the name of the exception, or its code if it has no name.
    @ivar size: of its report on the wire, in bytes; None: not known.
    @ivar rule: by which it was kept.
    @ivar minidump: C{none} if it came without one, and nothing is known of its place; else empty.
    @ivar store: the root of the store that kept it.
    @ivar is_here: whether it is in that store, or in its quarantine.
    @ivar moved_to: the destinations that have it.
    @ivar keys: where it lies at each of these, if that is known; else an empty text.
    @ivar published_to: the publishers that confirmed its id.
    @ivar why: why it was put into the quarantine; empty if that is not known, or if it was not.
    @ivar changed: when what is told here of its state happened.
    """

    crash_id: str
    at: float
    product: str = ""
    version: str = ""
    fingerprint: str = ""
    place: str = ""
    exception: str = ""
    cpu: str = ""
    os: str = ""
    uptime_s: int | None = None
    size: int | None = None
    rule: str = ""
    minidump: str = ""
    store: str = ""
    state: CrashState = "kept"
    is_here: bool = True
    moved_to: Sequence[str] = ()
    keys: Sequence[str] = ()
    published_to: Sequence[str] = ()
    why: str = ""
    changed: float = 0.0


@frozen
class SeenKept:
    """
    How many reports were seen in some time, and how many of them were kept.

    Seen are all that could be read and that are no duplicates: kept, left out by rules, or lost since no store took
    them.
    """

    seen: int = 0
    kept: int = 0

    def __add__(self, other: "SeenKept") -> "SeenKept":
        return SeenKept(self.seen + other.seen, self.kept + other.kept)


NONE_SEEN = SeenKept()


@frozen(kw_only=True)
class ProductSeen:
    """
    How often one version of a product was seen.

    @ivar hourly: of each of the last 24 hours, the present one last. Hours begin at full hours of UTC.
    @ivar hour: of the last hour, which is the present one and as much of the one before as makes 60 minutes.
    @ivar day: of the last 24 hours.
    @ivar first_seen: when it was first seen with this fingerprint, if it is of one.
    """

    product: str
    version: str
    hourly: Sequence[SeenKept] = field(default=(), repr=False)
    hour: SeenKept = NONE_SEEN
    day: SeenKept = NONE_SEEN
    first_seen: float | None = None


@frozen(kw_only=True)
class ProductsSeen:
    """
    The products that were seen in the last 24 hours, the most seen first.

    @ivar others: how many more there are.
    @ivar others_hour: how often these were seen in the last hour, all together; as C{others_day}.
    """

    products: Sequence[ProductSeen]
    others: int = 0
    others_hourly: Sequence[SeenKept] = field(default=(), repr=False)
    others_hour: SeenKept = NONE_SEEN
    others_day: SeenKept = NONE_SEEN


@frozen(kw_only=True)
class FingerprintSeen:
    """
    One fingerprint, and how often it was seen.

    @ivar exception_code: in hexadecimal; empty if it is not known.
    @ivar os: of one of its crashes, as C{cpu}.
    @ivar products: with their versions, the most seen in the last 24 hours first.
    @ivar hourly: as of L{ProductSeen}.
    @ivar last_kept_id: the crash that was kept last, if there is one.
    @ivar sampled_by: the rule that left out reports with it in the last hour; empty: none did.
    @ivar sampled_since: when that rule began to, if there is one.
    """

    fingerprint: str
    place: str
    exception: str
    exception_code: str = ""
    cpu: str = ""
    os: str = ""
    products: Sequence[ProductSeen] = ()
    hourly: Sequence[SeenKept] = field(default=(), repr=False)
    hour: SeenKept = NONE_SEEN
    day: SeenKept = NONE_SEEN
    first_seen: float
    last_seen: float
    last_kept: float | None = None
    last_kept_id: str = ""
    sampled_by: str = ""
    sampled_since: float | None = None

    def is_new(self, now: float) -> bool:
        """Whether it was first seen within 24 hours."""
        return now - self.first_seen < 24 * 3600


@frozen(kw_only=True)
class TopFingerprints:
    """
    The first fingerprints in some order.

    @ivar total: how many were seen in the last 24 hours.
    """

    order: TopOrder
    fingerprints: Sequence[FingerprintSeen]
    total: int


@frozen(kw_only=True)
class TrendSlot:
    """
    How often a fingerprint was seen from C{at} on, until the next slot begins.

    @ivar counts: None: the daemon was down, or counted nothing yet.
    """

    at: float
    counts: SeenKept | None


@frozen(kw_only=True)
class FingerprintPage:
    """
    All that is known of one fingerprint.

    @ivar of_all_hour: how many reports were seen in the last hour with any fingerprint, or with none.
    @ivar trend: how often it was seen, oldest first: 24 slots of an hour, 120 of 6 hours, or 120 of 5 s.
    @ivar step_s: seconds of a slot.
    @ivar others: other fingerprints with the same place, most seen in the last 24 hours first.
    @ivar kept: how many crashes with it were kept, in as long a time as counts are kept.
    @ivar crashes: the last of these that are known.
    """

    fingerprint: FingerprintSeen
    of_all_hour: SeenKept
    trend: Sequence[TrendSlot] = field(repr=False)
    step_s: int
    others: Sequence[FingerprintSeen]
    kept: int
    crashes: Sequence[IndexedCrash]


@frozen(kw_only=True)
class CrashNeighbours:
    """
    Other crashes that are probably the same as one.

    @ivar fingerprint: how often the fingerprint was seen.
    @ivar newest: the last crashes with it, without the one itself.
    @ivar others: how many other fingerprints there are with the same place.
    @ivar first_in: the product and the version in which it was seen first; None: that is not known.
    """

    fingerprint: FingerprintSeen
    newest: Sequence[IndexedCrash]
    others: int
    first_in: tuple[str, str] | None = None
