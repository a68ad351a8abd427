"""
Answers what is asked of the index and of the stores with pages: of a crash, of a fingerprint, and of a search.
"""

from collections.abc import Awaitable, Callable

from attrs import frozen

from collectord.admin.crash import CrashView
from collectord.admin.crashlist import CrashCells, moving
from collectord.admin.fingerprint import SPANS, FingerprintView
from collectord.admin.frame import Frame
from collectord.admin.remembered import remembered, with_index
from collectord.admin.search import SearchView
from collectord.concurrency.threadpool import ThreadRunner
from collectord.errors import IndexUnavailable, LookUpFailed
from collectord.index.asking import Index
from collectord.index.found import Found
from collectord.index.values import CrashNeighbours, FingerprintPage
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

    async def find_crash(self, find: Callable[[str], Awaitable[CrashPage | None]], crash_id: str) -> CrashPage | None:
        """
        Return all that is known of a crash; None: nothing is.

        @param find: looks into stores, destinations and the journal. What it does not find the index may know.

        @raise LookUpFailed: nothing is, but it may be where it could not be looked for.
        """
        not_asked: LookUpFailed | None = None
        try:
            crash = await find(crash_id)
        except LookUpFailed as e:
            crash, not_asked = None, e
        if crash is not None and (crash.annotations is not None or crash.erased):
            return crash
        try:
            known = await self.index.crash(crash_id)
        except IndexUnavailable:
            known = None
        if known is not None:
            return with_index(crash or remembered(known, str(not_asked or "")), known)
        if not_asked is not None:
            raise not_asked
        return crash

    async def crash(self, overview: Overview, crash: CrashPage, only: str) -> bytes:
        """
        Make the page of a crash.

        @param only: of its annotations, show those with this text; empty: all.
        """
        view = CrashView(
            frame=frame_of(overview, "../"),
            crash=crash,
            only=only,
            downloads=self.downloads,
            neighbours=await self._neighbours(crash),
            sinks=overview.sinks,
        )
        return await self.in_thread(view.page)

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
