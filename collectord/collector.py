"""
The collector decides what becomes of a report: the throttle rules judge it, it gets a crash id, and it is saved.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from hmac import compare_digest

from attrs import frozen
from twisted.logger import Logger

from collectord.annotations import ALL_NAMES, KeptNames, with_kept_names
from collectord.crashid import is_crash_id, make_crash_id
from collectord.duplicates.duplicates import Duplicates
from collectord.errors import AllStoresFailed, MalformedReport, RelayLoop, UnauthorizedUuid
from collectord.interfaces import ICrashStorage
from collectord.judge import Judged
from collectord.metrics import DUPLICATES, NOTES, SAVE_BYTES, SAVE_SECONDS, THROTTLED, series
from collectord.model import Annotations, Crash, CrashEvent, CrashFacts, CrashReport, Dump, Note
from collectord.pressure import NO_PRESSURE, Pressure
from collectord.rawcrash import make_raw_crash
from collectord.stepdetails import kept_details
from collectord.telling import SeenReport, about_kept, seen_report
from collectord.throttle.counts import ReportId
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from collectord.throttle.traits import Traits

_log = Logger()
_LIKE_IT_IS_KEPT = Verdict(Result.REJECT, "disk_pressure", 100)


async def knows_nothing(dumps: Sequence[Dump], annotations: Annotations) -> None:
    """Find out nothing about a crash."""
    return None


async def _shares_nothing(staging_ids: Sequence[str]) -> bool:
    return False


@frozen
class Outcome:
    """
    The outcome says what became of a report. With the results ACCEPT and DEFER its crash is kept and durable.

    @ivar crash_id: the id that the client is told, or None. A report with FAKEACCEPT has one, but is not kept.
    @ivar version: of the program, as the client says.
    @ivar is_duplicate: the same report was kept before, and the id is that of its crash. No rule judged this one.
    """

    result: Result
    rule: str
    crash_id: str | None = None
    version: str = ""
    is_duplicate: bool = False


@frozen(kw_only=True)
class Collector:
    """
    The collector judges, names and saves one report at a time.

    @ivar judge: applies the rules, given the annotations of a report, what else rules count it by, and its id if it has
        one by which it would be recognized if it came again. It never fails.
    @ivar facts_of: finds out where the crash of a report is, before the rules see it, by its dumps and by those
        annotations that may be stored. It returns None if it can't, and never fails.
    @ivar now: the current time, in UTC.
    @ivar seconds: a clock for durations.
    @ivar random: returns 16 bytes that nobody can guess, and that never come again.
    @ivar token: a client that sends this token may choose the crash id; if it is empty, no client may.
    @ivar aliases: by the name of one annotation, the name of another that it stands in for if that was not sent. The
        first counts of several that stand in for the same one.
    @ivar kept_names: which annotations are kept; the rules see them all.
    @ivar shares: tells whether one of these ids of stores, which a relay sends, stands for one of our own stores. Such
        a relay must be refused: the crash would be found in that store and acknowledged, and the relay would then
        remove its only copy.
    @ivar duplicates: knows the reports that were kept lately; None: every report is stored.
    @ivar pressure: says what has to be left out because disks are nearly full; but who sends a crash by its id has
        acknowledged it whole, so that is kept whole.
    @ivar on_event: is called for each crash that is kept, and for each duplicate.
    @ivar on_seen: is called for each report that the rules have judged, once it is known what became of it.
    @ivar told_annotations: the names of annotations that C{on_event} is told, too, if they are kept.
    @ivar record_address: whether the address of a client is stored with its crash, or logged if there is none.
    """

    judge: Callable[[Annotations, Traits, ReportId | None], Awaitable[Judged]]
    storage: ICrashStorage
    now: Callable[[], datetime]
    seconds: Callable[[], float]
    random: Callable[[], bytes]
    token: str = ""
    aliases: Mapping[str, str] = {}
    kept_names: KeptNames = ALL_NAMES
    shares: Callable[[Sequence[str]], Awaitable[bool]] = _shares_nothing
    duplicates: Duplicates | None = None
    pressure: Pressure = NO_PRESSURE
    on_event: Callable[[CrashEvent], None] = lambda event: None
    facts_of: Callable[[Sequence[Dump], Annotations], Awaitable[CrashFacts | None]] = knows_nothing
    on_seen: Callable[[SeenReport], None] = lambda report: None
    told_annotations: Sequence[str] = ()
    record_address: bool = False

    async def collect(self, report: CrashReport, began: float | None = None) -> Outcome:
        """
        Judge C{report}, and save it if the rules accept or defer it: then this returns once its crash is durable.

        A duplicate is neither judged nor saved: this returns the id of the crash that is kept already. To be called on
        the reactor thread.

        @param began: when the client began to send it, by the clock C{seconds}; None: now.

        @raise UnauthorizedUuid: the client chose the crash id, and sent another token than ours.
        @raise RelayLoop: another collectord relays the crash back to the store that the crash comes from.
        @raise MalformedReport: with C{invalid_uuid}: what the client chose is no crash id.
        @raise AllStoresFailed: no store could save the crash.
        """
        chosen = await self._chosen_id(report)
        digest = None
        if chosen is None and self.duplicates is not None:
            digest = self.duplicates.digest_of(report)
        if digest is None or self.duplicates is None:
            return await self._judge_and_save(report, chosen, None, began)
        since = self.seconds() if began is None else began
        known, is_claimed = await self.duplicates.look_up(digest, report, since)
        try:
            if known is not None:
                return self._duplicate(known, report)
            return await self._judge_and_save(report, chosen, digest, began)
        finally:
            if is_claimed:
                self.duplicates.release(digest)

    def _duplicate(self, crash_id: str, report: CrashReport) -> Outcome:
        DUPLICATES.inc()
        self.on_event(CrashEvent(at=self.now().timestamp(), crash_id=crash_id, kind="duplicate", where=""))
        _log.info(
            "{crash_id} came again: {size} bytes, not stored once more", crash_id=crash_id, size=report.payload.size
        )
        return Outcome(Result.ACCEPT, "", crash_id, is_duplicate=True)

    async def _judge_and_save(
        self, report: CrashReport, chosen: str | None, digest: bytes | None, began: float | None
    ) -> Outcome:
        now = self.now()
        crash_id = chosen or make_crash_id(self.random(), now.date())
        sent = report.annotations if chosen is None else _without_uuid(report.annotations)
        named = with_kept_names(sent, self.aliases)
        annotations = named.annotations
        kept = self.kept_names.of(named)
        facts = await self.facts_of(report.dumps, kept)
        judged = await self.judge(annotations, Traits.of(annotations, facts, report.address), chosen or digest)
        verdict = judged.verdict
        is_kept = verdict.result in (Result.ACCEPT, Result.DEFER)
        fresh = chosen is None
        fingerprint = None if facts is None else facts.fingerprint
        if is_kept and fresh and fingerprint is not None and self.pressure.refuses(fingerprint):
            judged.tally.rejected()
            verdict, is_kept = _LIKE_IT_IS_KEPT, False
        series(THROTTLED, verdict.rule, verdict.result.name).inc()
        seen = partial(seen_report, kept, facts, verdict, now.timestamp())
        if is_kept:
            report = self.pressure.lightened(report) if fresh else report
            notes = [*report.notes, *self._notes_on(named.renamed)]
            said = [*(() if fresh else report.sender_notes), *(note.text for note in notes)]
            client = report.address if self.record_address and fresh else None  # a relay is not the client
            raw_crash = make_raw_crash(crash_id, kept, said, report, facts, judged, now, client)
            crash = Crash(crash_id=crash_id, raw_crash=raw_crash, dumps=report.dumps, fresh=fresh, began=began)
            try:
                await self._save(crash, report, facts, verdict, now, digest)
            except BaseException as e:
                if isinstance(e, AllStoresFailed):
                    self.on_seen(seen("lost"))
                judged.tally.failed()
                if fingerprint is not None:
                    self.pressure.forget(fingerprint)
                raise
            self.on_seen(seen("kept", crash_id))
            for note in notes:
                series(NOTES, note.kind).inc()
            return Outcome(verdict.result, verdict.rule, crash_id)
        self.on_seen(seen("left_out"))
        by_whom, sender = self.told_client(report.address)
        _log.info(
            "{result} by {rule}: not kept, {size} bytes" + by_whom,
            result=verdict.result.name,
            rule=verdict.rule,
            size=report.payload.size,
            **sender,
        )
        told = crash_id if verdict.result is Result.FAKEACCEPT else None
        return Outcome(verdict.result, verdict.rule, told, annotations.get("Version", ""))

    def told_client(self, address: str | None) -> tuple[str, Mapping[str, str]]:
        """Return what a log line about a report that is not kept says of its client, and the fields for that."""
        return (", from {client}", {"client": address}) if self.record_address and address else ("", {})

    async def _save(
        self,
        crash: Crash,
        report: CrashReport,
        facts: CrashFacts | None,
        verdict: Verdict,
        now: datetime,
        digest: bytes | None,
    ) -> None:
        began = self.seconds()
        store = await self.storage.save(crash)
        seconds = self.seconds() - began
        series(SAVE_SECONDS, store).observe(seconds)
        series(SAVE_BYTES, store).observe(sum(dump.size for dump in crash.dumps))
        about = about_kept(crash.raw_crash, report, facts, verdict.rule, self.told_annotations)
        about["details"] = kept_details(crash, began, seconds)
        if digest is not None and self.duplicates is not None:
            is_deferred = verdict.result is Result.DEFER
            remembered = self.duplicates.kept(digest, report, crash.crash_id, is_deferred=is_deferred)
            about["digest"] = remembered.hex()
        at = now.timestamp() + seconds  # the wall clock is read once for each report; this is exact enough
        self.on_event(CrashEvent(at=at, crash_id=crash.crash_id, kind="kept", where=store, about=about))
        _log.info(
            "{crash_id} kept: {result} by {rule}, {size} bytes, in {store} after {ms} ms",
            crash_id=crash.crash_id,
            result=verdict.result.name,
            rule=verdict.rule,
            size=report.payload.size,
            store=store,
            ms=round(seconds * 1000, 1),
        )

    async def _chosen_id(self, report: CrashReport) -> str | None:
        chosen = report.annotations.get("uuid")
        claimed = report.bearer_token is not None or report.sender_stores
        if chosen is None or not claimed:
            return None
        token = report.bearer_token or ""
        if not self.token or not compare_digest(self.token.encode(), token.encode()):
            raise UnauthorizedUuid
        if not is_crash_id(chosen):
            raise MalformedReport("invalid_uuid")
        if report.sender_stores and await self.shares(report.sender_stores):
            raise RelayLoop
        return chosen

    def _notes_on(self, renamed: Mapping[str, str]) -> list[Note]:
        return [
            Note("renamed", f"{name}: the collector's own name, kept as {new}")
            for name, new in renamed.items()
            if self.kept_names.keeps(name, new)
        ]


def _without_uuid(annotations: Annotations) -> Annotations:
    return {name: value for name, value in annotations.items() if name != "uuid"}
