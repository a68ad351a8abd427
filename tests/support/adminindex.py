"""
The index of a daemon that is made up.
"""

import math
from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen

from collectord.errors import IndexUnavailable
from collectord.index.day import DayCounts, Series
from collectord.index.found import Facet, FacetValue, Found, SearchWord
from collectord.index.intake import SLOTS, IntakeCounts, IntakeHistory, IntakeSlot, Span
from collectord.index.values import (
    CrashNeighbours,
    FingerprintPage,
    FingerprintSeen,
    IndexedCrash,
    ProductSeen,
    ProductsSeen,
    SeenKept,
    TopFingerprints,
    TopOrder,
    TrendSlot,
)

FINGERPRINT = "1:e440066559a6656c"
STORE = "/var/lib/collectord/crashes"
WHY = "upload_file_minidump has the checksum 9f86; it was received with d081"
DEBUG_ID = "4C1B2E8F90A34D7792E65C0B7A1D3F221"
_BUGS = [
    (FINGERPRINT, f"amd64 0xc0000005 appcore.dll {DEBUG_ID} 0x1f2e4c", "ACCESS_VIOLATION_READ", 8912),
    ("1:26160be4b51b0c64", "libgpu.so+0x8a310", "SIGSEGV SEGV_MAPERR", 412),
    ("1:ade307447b908b6c", "media.Decoder.nextFrame", "IllegalStateException", 164),
    ("1:0000000000000001", "", "", 3),
]
_HOURS = 24


@frozen
class MadeUpIndex:
    """
    Answers as a scenario of L{tests.support.adminserver} wants it.

    @ivar attacks: what clients say, if they are hostile.
    """

    scenario: str
    now: float
    attacks: tuple[str, ...] = ()

    @property
    def _is_empty(self) -> bool:
        return self.scenario == "empty"

    def _said(self, number: int, otherwise: str) -> str:
        return self.attacks[number % len(self.attacks)] if self.attacks else otherwise

    def _refuse(self) -> None:
        if self.scenario == "unindexed":
            raise IndexUnavailable("it takes too long")

    async def top(self, order: TopOrder, limit: int = 12) -> TopFingerprints:
        self._refuse()
        seen = [] if self._is_empty else [self._bug(number) for number in range(len(_BUGS))]
        return TopFingerprints(order=order, fingerprints=seen, total=1204 if seen else 0)

    def _bug(self, number: int) -> FingerprintSeen:
        fingerprint, place, exception, hour = _BUGS[number]
        hourly = [_seen(hour * (1 + math.sin(at / 4)) / 2, hour / 9) for at in range(_HOURS)]
        products = [self._product(version, hourly) for version in ("128.0.1", "128.0")]
        return FingerprintSeen(
            fingerprint=fingerprint,
            place=self._said(number, place),
            exception=self._said(number + 1, exception),
            exception_code="0xc0000005" if number == 0 else "",
            cpu="amd64",
            os=self._said(number + 2, "Windows 11"),
            products=products,
            hourly=hourly,
            hour=_seen(hour, hour / 47),
            day=sum(hourly, SeenKept()),
            first_seen=self.now - (9000 if number == 0 else 3e6),
            last_seen=self.now - number,
            last_kept=self.now - number,
            last_kept_id=self._crash(number).crash_id,
            sampled_by="flood" if number == 0 else "",
            sampled_since=self.now - 7000 if number == 0 else None,
        )

    def _product(self, version: str, hourly: Any) -> ProductSeen:
        return ProductSeen(
            product=self._said(0, "Firefox"),
            version=self._said(1, version),
            hourly=hourly,
            hour=hourly[-1],
            day=sum(hourly, SeenKept()),
            first_seen=self.now - 9000,
        )

    def _crash(self, number: int) -> IndexedCrash:
        """One of the last ones; greater numbers are older."""
        at = math.floor(self.now * 2) - number
        fingerprint, place, exception, _ = _BUGS[number % 4]
        crash = IndexedCrash(
            crash_id=f"{at % 16**8:08x}-57c6-4e5d-b2cf-{at * 7919 % 16**5:05x}0160622",
            at=at / 2,
            product=self._said(number, ["Firefox", "Fenix", "Thunderbird"][number % 3]),
            version=self._said(number + 1, "128.0.1"),
            fingerprint="" if number % 4 == 3 else fingerprint,
            place=self._said(number + 2, place),
            exception=self._said(number + 3, exception),
            cpu="amd64",
            os=self._said(number, "Windows 11"),
            uptime_s=3207,
            size=412_000 + number,
            rule="flood",
            minidump="none" if number % 4 == 3 else "",
            store=STORE,
        )
        if number % 4 == 1:
            return evolve(crash, state="moved", is_here=False, moved_to=["s3: crashes"], published_to=["rabbitmq"])
        return evolve(crash, state="quarantined", why=self._said(number, WHY)) if number % 8 == 2 else crash

    async def last(self, limit: int = 10) -> list[IndexedCrash]:
        self._refuse()
        return [] if self._is_empty else [self._crash(number) for number in range(limit)]

    async def products(self, limit: int = 8) -> ProductsSeen:
        self._refuse()
        if self._is_empty:
            return ProductsSeen(products=[])
        hourly = [_seen(100 + 50 * math.sin(at / 4), 60) for at in range(_HOURS)]
        seen = [self._product(version, hourly) for version in ("128.0.1", "128.0")]
        return ProductsSeen(products=seen, others=11, others_hour=_seen(35, 20), others_day=_seen(732, 600))

    async def search(self, query: str, before: str = "", limit: int = 24) -> Found:
        self._refuse()
        if query == "wrong:":
            return Found(query=query, words=[], problem="wrong: has no value")
        words = [
            SearchWord(name=name, value=value, is_not=False, text=text, without=query.replace(text, "").strip())
            for text in query.split()
            for name, _, value in [text.partition(":")]
        ]
        if self._is_empty or "nothing" in query:
            return Found(query=query, words=words, seconds=0.002)
        return Found(
            query=query,
            words=words,
            count=4821,
            not_kept=19_377,
            since=self.now - 40_000,
            until=self.now,
            seconds=0.038,
            crashes=[self._crash(number) for number in range(limit)],
            first=25 if before else 1,
            older="" if before else "next",
            newer=bool(before),
            facets=[
                Facet(
                    name="product",
                    values=[
                        FacetValue(word="product:Firefox", label=self._said(0, "Firefox"), count=4821, is_chosen=True),
                        FacetValue(word='product:"Fire Fox"', label=self._said(1, "Fire Fox"), count=311),
                    ],
                    others=11,
                    others_count=207,
                ),
                Facet(name="day", values=[FacetValue(word="day:2016-06-22", label="2016-06-22", count=4821)]),
            ],
        )

    async def fingerprint(self, fingerprint: str, span: Span = "24h") -> FingerprintPage | None:
        self._refuse()
        if self._is_empty or fingerprint not in [name for name, *_ in _BUGS]:
            return None
        number = [name for name, *_ in _BUGS].index(fingerprint)
        step = {"10min": 5, "24h": 3600, "30d": 21_600}[span]
        slots = 24 if span == "24h" else 120
        first = math.floor(self.now / step) * step - (slots - 1) * step
        return FingerprintPage(
            fingerprint=self._bug(number),
            of_all_hour=_seen(21_000, 9000),
            trend=[
                TrendSlot(at=first + at * step, counts=None if at == 5 else _seen(100 * at, 20 + at))
                for at in range(slots)
            ],
            step_s=step,
            others=[self._bug(1)],
            kept=448,
            crashes=await self.last(),
        )

    async def neighbours(self, crash_id: str, fingerprint: str, limit: int = 5) -> CrashNeighbours | None:
        self._refuse()
        newest = await self.last(limit)
        return CrashNeighbours(
            fingerprint=self._bug(0), newest=newest, others=3, first_in=(self._said(0, "Firefox"), "128.0.1")
        )

    async def crash(self, crash_id: str) -> IndexedCrash | None:
        self._refuse()
        return evolve(self._crash(1), crash_id=crash_id) if self.scenario == "unlogged" else None

    def day(self) -> DayCounts:
        if self._is_empty:
            return DayCounts(seconds=3)
        counts: dict[Series, float] = {
            ("answer", "200", "kept"): 225_330.0,
            ("answer", "200", self._said(2, "rejected")): 42_055.0,
            ("answer", "400", "malformed_no_annotations"): 6050.0,
            ("answer", "408", "too_slow"): 23.0,
            ("rule", "infobar_is_true", "REJECT"): 5170.0,
            ("rule", "flood", "REJECT"): 30_781.0,
            ("rule", "flood", "ACCEPT"): 400.0,
            ("rule", self._said(1, "no_more"), "ACCEPT"): 1.0,
            ("stored", STORE): 120e9,
            ("given", "s3: crashes"): 225_318.0,
            ("failed", "s3: crashes"): 88.0 if self.scenario == "troubled" else 3.0,
            ("given", "rabbitmq: socorro.normal"): 225_318.0,
            ("took", "s3: crashes", "0.025"): 3.0,
            ("took", "s3: crashes", "0.05"): 225_318.0,
            ("took", "s3: crashes", "+Inf"): 225_318.0,
        }
        if self.scenario == "losing":
            counts["answer", "503", "nowhere_to_save"] = 1115.0
        waited = [None if at < 3 else float(10 + at % 5) for at in range(_HOURS)]
        return DayCounts(seconds=21 * 3600, counts=counts, hourly={("waits", STORE): waited})

    def history(self, span: Span) -> IntakeHistory:
        number, step = SLOTS[span]
        began = math.floor(self.now / step) * step - (number - 1) * step
        slots = [self._slot(began + at * step, step, at / number) for at in range(number)]
        counted = [slot for slot in slots if slot is not None]
        if self._is_empty:
            slots, counted = [None] * number, []
        sums = sum((slot.counts for slot in counted), IntakeCounts())
        rates = [slot.rates for slot in counted] or [IntakeCounts()]
        names = ("received", "kept", "left_out", "refused", "lost", "moved", "bytes_in")
        return IntakeHistory(
            span=span,
            began=began,
            step_s=step,
            slots=slots,
            now=rates[-1],
            mean=sums.over(number * step),
            most=IntakeCounts(**{name: max(getattr(rate, name) for rate in rates) for name in names}),
            sums=sums,
        )

    def _slot(self, at: float, step: float, part: float) -> IntakeSlot | None:
        """The daemon was down for a while."""
        if 0.3 < part < 0.35:
            return None
        kept = 3 + math.sin(7 * part)
        left = 0.3 if part < 0.9 else 3.0
        lost = 5.5 if self.scenario == "losing" and part > 0.68 else 0.0
        if lost:
            kept = left = 0.0
        received = kept + left + lost + 0.1
        counts = IntakeCounts(
            received=received,
            kept=kept,
            left_out=left,
            refused=0.1,
            lost=lost,
            moved=kept * 0.95,
            bytes_in=received * 4e5,
        )
        return IntakeSlot(at=at, seconds=step, counts=counts.over(1 / step))


def _seen(seen: float, kept: float) -> SeenKept:
    return SeenKept(int(seen), int(min(seen, kept)))


class CurrentIndex:
    """
    An index that is another one whenever the scenario changes.

    @param current: returns it.
    """

    def __init__(self, current: Callable[[], MadeUpIndex]) -> None:
        self._current = current

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current(), name)
