"""
Answers what is asked of the index and of the stores with pages: of a crash, of a fingerprint, and of a search.
"""

from collections.abc import Mapping, Sequence

from attrs import evolve, frozen

from collectord.admin.crash import CrashView
from collectord.admin.crashlist import CrashCells
from collectord.admin.fingerprint import SPANS, FingerprintView
from collectord.admin.frame import Frame
from collectord.admin.search import SearchView
from collectord.concurrency.threadpool import ThreadRunner
from collectord.errors import IndexUnavailable
from collectord.index.asking import Index
from collectord.index.found import Found
from collectord.index.values import CrashNeighbours, FingerprintPage, IndexedCrash
from collectord.observe.crashpage import CrashPage
from collectord.observe.status import Overview


@frozen(kw_only=True)
class LookUps:
    """
    Makes the pages that somebody asks for by name.

    @ivar in_thread: where they are made. Two megabytes of characters that can't be seen take seconds.
    @ivar downloads: whether dumps may be downloaded.
    """

    index: Index
    in_thread: ThreadRunner
    downloads: bool

    async def crash(self, overview: Overview, crash: CrashPage, only: str) -> bytes:
        """
        Make the page of a crash.

        @param only: of its annotations, show those with this text; empty: all.
        """
        crash = await self._with_index(crash)
        view = CrashView(
            frame=frame_of(overview, "../"),
            crash=crash,
            only=only,
            downloads=self.downloads,
            neighbours=await self._neighbours(crash),
        )
        return await self.in_thread(view.page)

    async def _with_index(self, crash: CrashPage) -> CrashPage:
        """Add what the index knows of a crash that is in no store."""
        if crash.annotations is not None:
            return crash
        try:
            known = await self.index.crash(crash.crash_id)
        except IndexUnavailable:
            known = None
        return crash if known is None else evolve(crash, facts={**crash.facts, **_facts(known)})

    async def _neighbours(self, crash: CrashPage) -> CrashNeighbours | None:
        fingerprint = crash.facts.get("metadata.fingerprint", "") or crash.facts.get("fingerprint", "")
        if not fingerprint:
            return None
        try:
            return await self.index.neighbours(crash.crash_id, fingerprint)
        except IndexUnavailable:
            return None

    async def find_fingerprint(self, fingerprint: str, span: str) -> FingerprintPage | None:
        """
        Return all that is known of a fingerprint; None: nothing is.

        @raise IndexUnavailable: the index can't be asked.
        """
        name, _, _ = SPANS[span]
        return await self.index.fingerprint(fingerprint, name)

    async def fingerprint(self, overview: Overview, known: FingerprintPage, span: str) -> bytes:
        """Make the page of a fingerprint."""
        cells = CrashCells(frame=frame_of(overview, "../"), moving=moving(overview))
        outcomes = {rule.name: rule.outcome for rule in overview.rules}
        return await self.in_thread(FingerprintView(cells=cells, known=known, span=span, outcomes=outcomes).page)

    async def search(self, overview: Overview, found: Found, before: str) -> bytes:
        """Make the page of what was found."""
        cells = CrashCells(frame=frame_of(overview, "", found.query), moving=moving(overview))
        return await self.in_thread(SearchView(cells=cells, found=found, before=before).page)


def _facts(crash: IndexedCrash) -> Mapping[str, str]:
    known = {
        "fingerprint": crash.fingerprint,
        "crash_place": crash.place,
        "exception_name": crash.exception,
        "cpu": crash.cpu,
        "os": crash.os,
        "uptime_s": "" if crash.uptime_s is None else str(crash.uptime_s),
    }
    return {name: value for name, value in known.items() if value}


def frame_of(overview: Overview, up: str, query: str = "") -> Frame:
    """Return what a page knows of the daemon; see L{Frame}."""
    return Frame(
        now=overview.now,
        started=overview.started,
        version=overview.version,
        host=overview.host,
        up=up,
        searches=True,
        query=query,
    )


def moving(overview: Overview) -> Sequence[str]:
    """Return the stores out of which crashes are moved."""
    return [store.name for store in overview.stores if store.backlog is not None]
