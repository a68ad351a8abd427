"""
The routes of the admin port.
"""

from collections.abc import Sequence
from typing import Protocol

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, NotFound

from collectord.admin.downloads import DumpToSend, send
from collectord.admin.feed import Feed, TooManyStreams
from collectord.admin.fingerprint import SPANS
from collectord.admin.first import FirstPages
from collectord.admin.guard import Guard
from collectord.admin.json import as_json
from collectord.admin.lookups import LookUps
from collectord.admin.near import is_near
from collectord.admin.overview import choice_of
from collectord.admin.server import AdminServer
from collectord.admin.staticfiles import STATIC
from collectord.concurrency.threadpool import ThreadRunner, at_once
from collectord.crashid import is_crash_id
from collectord.errors import IndexUnavailable, LookUpFailed
from collectord.index.asking import Index
from collectord.observe.crashpage import CrashPage
from collectord.observe.status import Overview
from collectord.web.responses import JSON, answer, text

_HTML = b"text/html; charset=utf-8"
_ID_LENGTH = 36
_LONGEST = 1000
"""The most characters of what is asked for that are looked at."""


class StatusSource(Protocol):
    """What the admin site asks the daemon for."""

    def overview(self) -> Overview:
        """Return the present state of the daemon."""

    async def crash(self, crash_id: str) -> CrashPage | None:
        """
        Return all that is known of a crash; None if nothing is.

        @raise LookUpFailed: nothing was found, but it may be where it could not be looked for.
        """

    async def dump(self, crash_id: str, name: str) -> DumpToSend | None:
        """
        Return a dump of a crash that is in a store; None if it is not there.

        @raise LookUpFailed: that could not be found out.
        """

    def metrics(self) -> tuple[bytes, str]:
        """Return the metrics as Prometheus reads them, and their content type."""


class AdminSite:
    """
    The site of the admin port: pages, JSON, live data and metrics, behind its guard.

    @param source: answers questions about the daemon.
    @param index: answers questions about the crashes that are known.
    @param token: what a client has to know; if it is empty, no token is asked for.
    @param hosts: names by which the daemon may be called, besides the local ones.
    @param downloads: whether dumps may be downloaded.
    @param allow_open: without a token, also answer requests that a proxy passes on for others.
    @param in_thread: where pages are made.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        source: StatusSource,
        index: Index,
        *,
        token: str,
        hosts: Sequence[str],
        clock: IReactorTime,
        downloads: bool = False,
        allow_open: bool = False,
        in_thread: ThreadRunner = at_once,
    ) -> None:
        self._source = source
        self._index = index
        self._first = FirstPages(source.overview, index, in_thread, clock)
        self._look_up = LookUps(index=index, in_thread=in_thread, downloads=downloads)
        self._token = token
        self._downloads = downloads
        self._hosts = hosts
        self._allow_open = allow_open
        self._clock = clock
        self._feed = Feed(source.overview, clock)

    def resource(self) -> IResource:
        """Return the resource with all routes, behind the guard."""
        return Guard(self.app.resource(), token=self._token, hosts=self._hosts, allow_open=self._allow_open)

    def factory(self) -> AdminServer:
        """Return the factory for the ports of the admin site."""
        return AdminServer(self.resource(), self._clock)

    def close(self) -> None:
        """End the streams of live data, which would never end by themselves."""
        self._feed.close()

    @app.route("/", methods=["GET"])
    async def page(self, request: Request) -> bytes:
        """Answer with the state of the daemon as a page."""
        choice = choice_of(_asked(request, b"span"), _asked(request, b"top"))
        return answer(request, _HTML, await self._first.page(choice))

    @app.route("/overview.json", methods=["GET"])
    def overview(self, request: IRequest) -> bytes:
        """Answer with the state of the daemon as JSON."""
        return answer(request, JSON, as_json(self._source.overview()))

    @app.route("/events", methods=["GET"])
    def events(self, request: Request) -> Deferred[bytes] | bytes:
        """Answer with the state of the daemon as server-sent events, each second, without end."""
        request.setHeader(b"content-type", b"text/event-stream")
        request.setHeader(b"x-accel-buffering", b"no")  # Otherwise nginx would hold events back in its buffer.
        return b"" if request.method == b"HEAD" else self._feed.follow(request)

    @app.route("/crashes/<crash_id>", methods=["GET"])
    async def crash(self, request: Request, crash_id: str) -> bytes:
        """Answer with all that is known of a crash as a page."""
        crash = await self._crash(crash_id)
        page = await self._look_up.crash(self._source.overview(), crash, _asked(request, b"only"))
        return answer(request, _HTML, page)

    @app.route("/crashes/<crash_id>.json", methods=["GET"])
    async def crash_json(self, request: IRequest, crash_id: str) -> bytes:
        """Answer with all that is known of a crash as JSON."""
        return answer(request, JSON, as_json(await self._crash(crash_id)))

    async def _crash(self, name: str) -> CrashPage:
        crash_id = name[-_ID_LENGTH:].lower()  # Clients see crash ids with a prefix, and operators copy those.
        found = await self._look_up.find_crash(self._source.crash, crash_id) if is_crash_id(crash_id) else None
        if found is None:
            raise NotFound
        return found

    @app.route("/crashes/<crash_id>/dumps/<name>", methods=["GET"])
    async def dump(self, request: Request, crash_id: str, name: str) -> bytes:
        """Answer with a dump of a crash, if dumps may be downloaded and the client is known or on this host."""
        if not self._downloads:
            raise NotFound
        if not self._token and not is_near(request):
            return text(request, 403, "Without a token in the section [admin], dumps are for clients on this host\n")
        found = await self._source.dump(crash_id, name) if is_crash_id(crash_id) else None
        if found is None:
            raise NotFound
        if request.method != b"HEAD":
            await send(request, found, f"{crash_id}.{name}")
        return b""

    @app.route("/fingerprints/<fingerprint>", methods=["GET"])
    async def fingerprint(self, request: Request, fingerprint: str) -> bytes:
        """Answer with all that is known of a fingerprint as a page."""
        span = _asked(request, b"span")
        span = span if span in SPANS else "24h"
        known = await self._look_up.find_fingerprint(fingerprint[:_LONGEST], span)
        if known is None:
            raise NotFound
        return answer(request, _HTML, await self._look_up.fingerprint(self._source.overview(), known, span))

    @app.route("/search", methods=["GET"])
    async def search(self, request: Request) -> bytes:
        """Answer with the crashes that were searched for as a page."""
        before = _asked(request, b"before")
        found = await self._index.search(_asked(request, b"q"), before)
        return answer(request, _HTML, await self._look_up.search(self._source.overview(), found, before))

    @app.route("/search.json", methods=["GET"])
    async def search_json(self, request: Request) -> bytes:
        """Answer with the crashes that were searched for as JSON."""
        found = await self._index.search(_asked(request, b"q"), _asked(request, b"before"))
        return answer(request, JSON, as_json(found))

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: IRequest) -> bytes:
        """Answer with the metrics, for Prometheus."""
        body, content_type = self._source.metrics()
        return answer(request, content_type.encode(), body)

    @app.route("/__lbheartbeat__", methods=["GET"])
    def lbheartbeat(self, request: IRequest) -> bytes:
        """Answer 200, which shows that the daemon runs."""
        return text(request, 200, "")

    @app.route("/static/<name>", methods=["GET"])
    def static(self, request: IRequest, name: str) -> bytes:
        """Answer with a file that the pages use."""
        if name not in STATIC:
            raise NotFound
        return answer(request, *STATIC[name])

    @app.handle_errors(TooManyStreams)
    def too_many_streams(self, request: IRequest, failure: Failure) -> bytes:
        """Answer 503: the page then goes on without live data, and tries again later."""
        request.setHeader(b"retry-after", b"10")
        return text(request, 503, "Too many clients listen to live data\n")

    @app.handle_errors(IndexUnavailable)
    def no_index(self, request: IRequest, failure: Failure) -> bytes:
        """Answer 503: the index can't be asked now, or is off by the settings."""
        return text(request, 503, f"The index of crashes can't be asked: {failure.getErrorMessage()}\n")

    @app.handle_errors(LookUpFailed)
    def not_found_everywhere(self, request: IRequest, failure: Failure) -> bytes:
        """Answer 503: it was not found, and some places can't be asked now."""
        return text(request, 503, f"Not found, but not all could be asked: {failure.getErrorMessage()}\n")

    @app.handle_errors(HTTPException)
    def no_route(self, request: IRequest, failure: Failure) -> bytes:
        """Answer 404: there is no such path, or no such crash."""
        return text(request, 404, "Not found\n")

    @app.handle_errors(Exception)
    def broken(self, request: IRequest, failure: Failure) -> bytes:
        """Answer 500, and log the failure, which is a defect of ours."""
        self._log.failure("a defect: a request to the admin port could not be answered", failure)
        return text(request, 500, "Internal error\n")


def _asked(request: Request, name: bytes) -> str:
    """Return a parameter of the query, cut if it is longer than anything sensible; empty if it is not there."""
    values: Sequence[bytes] = (request.args or {}).get(name, [b""])
    return values[0].decode("utf-8", "replace")[:_LONGEST]
