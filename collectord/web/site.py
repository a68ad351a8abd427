"""
The routes of the public port: submissions, heartbeats and the version.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import unquote_to_bytes

from klein import Klein, KleinRenderable
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException, MethodNotAllowed

import twisted
from collectord import __version__
from collectord.collector import Collector
from collectord.concurrency.tasks import spawn
from collectord.dialects.table import Asked, DialectTable
from collectord.errors import CollectordError, StorageError, UnknownKey
from collectord.intake.receiver import ReportReceiver
from collectord.intake.request import Body, StreamingRequest
from collectord.metrics import ANSWERS, RECEIVE_BYTES, RECEIVE_SECONDS, RECEIVED, UNKNOWN_KEYS, series
from collectord.pressure import IN_WORDS, PressureLevel
from collectord.throttle.results import Result
from collectord.web.answers import REFUSALS, Shown, refusal, told_outcome
from collectord.web.origins import allow_origin, not_allowed, other_method
from collectord.web.responses import json_text, no_store, text

_REASONS = {
    Result.ACCEPT: "kept",
    Result.DEFER: "kept",
    Result.FAKEACCEPT: "fake_accept",
    Result.REJECT: "rejected",
    Result.STOP: "stopped",
    Result.IGNORE: "unsupported",
}


def version_info() -> dict[str, str]:
    """Return the versions of collectord, Python and Twisted, in the shape of Mozilla's C{/__version__}."""
    return {
        "source": "collectord",
        "version": __version__,
        "commit": "",
        "build": "",
        "python": ".".join(map(str, sys.version_info[:3])),
        "twisted": twisted.__version__,
    }


class StoreState(Protocol):
    """How one store is, for the heartbeat."""

    @property
    def name(self) -> str: ...

    @property
    def problem(self) -> str:
        """Why it takes no crashes; empty if it does."""

    @property
    def figures(self) -> Mapping[str, int]:
        """Numbers about it that the heartbeat shows, by name."""

    @property
    def cautions(self) -> Sequence[str]:
        """What it can't promise, in plain sentences."""


class HasLevel(Protocol):
    """Has a level of disk pressure."""

    @property
    def level(self) -> PressureLevel: ...


class Stores(Protocol):
    """What the heartbeats ask the stores."""

    async def check_each(self) -> Sequence[StoreState]:
        """Try out each store now, and return how it is."""

    @property
    def takes_crashes(self) -> bool:
        """Whether any store takes crashes, by what is known of them; it does not block."""

    @property
    def pressure(self) -> HasLevel:
        """How much is left out of new crashes because disks are nearly full."""


ReceiverFor = Callable[[StreamingRequest, int | None, Asked], ReportReceiver]


class PublicSite:
    """
    The site of the public port. It takes submissions and answers heartbeats.

    @ivar collector: judges and saves the reports; a reload may replace it.
    @ivar shown: what clients see of a crash that is kept; a reload may replace it.
    @ivar dialects: the paths on which reports are taken, and how they are answered there. A reload may replace it.
    @ivar draining: whether load balancers are told to send no more.
    @ivar saving: how many reports are being kept now.
    @ivar hung_workers: how many processes beside this one accept connections and answer none.
    @param receiver_for: returns the receiver for the body of a submission, given the request, its Content-Length and
        what it asks for.
    @param stores: asked by the heartbeats.
    @param version: the content of C{/__version__}.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        collector: Collector,
        receiver_for: ReceiverFor,
        stores: Stores,
        shown: Shown,
        version: Mapping[str, str],
        dialects: DialectTable,
    ) -> None:
        self.collector = collector
        self._receiver_for = receiver_for
        self._stores = stores
        self.shown = shown
        self.draining = False
        self.hung_workers = 0
        self._version = version
        self.dialects = dialects
        self.saving = 0
        self._drained: Deferred[None] | None = None

    def resource(self) -> IResource:
        """Return the resource with all routes."""
        return _Routes(self.app, self)

    def body_for(self, request: StreamingRequest, length: int | None) -> Body | None:
        """
        Return the receiver for the body of C{request}; None if it is no submission.

        @param length: its Content-Length; None if it has none.
        """
        if request.method == b"POST" and (asked := self.dialects.find(unquote_to_bytes(request.path), request)):
            RECEIVED.inc()
            return self._receiver_for(request, length, asked)
        return None

    async def _submit(self, request: StreamingRequest, receiver: ReportReceiver) -> bytes:
        """Take a report. A report that was received whole is kept even if the client does not wait for the answer."""
        RECEIVE_SECONDS.observe(self.collector.seconds() - request.began)
        self.saving += 1
        try:
            report = await receiver.report()
            RECEIVE_BYTES.observe(report.payload.size)
            outcome = await self.collector.collect(report, request.began)
        finally:
            receiver.release()
            self.saving -= 1
            if not self.saving and self._drained is not None:
                self._drained.callback(None)
                self._drained = None
        if not request.is_abandoned:
            reason = "duplicate" if outcome.is_duplicate else _REASONS[outcome.result]
            series(ANSWERS, "200", reason).inc()
        return told_outcome(request, receiver.asked.dialect.answer, outcome, self.shown)

    def answer(self, request: StreamingRequest, receiver: ReportReceiver) -> None:
        """Answer a submission. The client may hang up meanwhile; then nobody is answered."""
        spawn(self._answered(request, receiver), self._log, "a defect: an answer could not be written")

    async def _answered(self, request: StreamingRequest, receiver: ReportReceiver) -> None:
        dialect = receiver.asked.dialect
        if dialect.cors:
            allow_origin(request, dialect)
        try:
            content = await self._submit(request, receiver)
        except Exception as error:
            if request.is_abandoned:
                if not isinstance(error, REFUSALS):
                    self._log.failure("a defect: a report could not be kept, and its client has gone")
                return
            if not isinstance(error, REFUSALS):
                content = self.broken(request, Failure())
            else:
                content = self._refused(request, receiver, error)
                if isinstance(error, StorageError) and dialect.unavailable == "close":
                    request.channel.loseConnection()
                    return
        if not request.is_abandoned:
            request.write(content)
            request.finish()

    def _refused(self, request: StreamingRequest, receiver: ReportReceiver, error: CollectordError) -> bytes:
        """Answer a report that is refused. This is the only place where such an error becomes an answer."""
        dialect = receiver.asked.dialect
        status, reason, content = refusal(request, dialect, error)
        ANSWERS.labels(str(status), reason).inc()
        if isinstance(error, UnknownKey):
            UNKNOWN_KEYS.labels(dialect.name).inc()
        if status == 200:  # its client has asked something, or sent what is no crash
            self._log.debug("answered, and not kept: {reason}", reason=reason)
            return content
        log = self._log.error if status == 503 else self._log.info
        by_whom, sender = self.collector.told_client(receiver.address)
        log("refused: {status} {reason}" + by_whom, status=status, reason=str(error), **sender)
        return content

    async def drained(self) -> None:
        """Wait until no report is being kept any more."""
        while self.saving:
            self._drained = self._drained or Deferred()
            await self._drained

    @app.route("/__heartbeat__", methods=["OPTIONS"])
    @app.route("/__lbheartbeat__", methods=["OPTIONS"])
    @app.route("/__version__", methods=["OPTIONS"])
    def options(self, request: IRequest) -> bytes:
        """Answer with the methods that the health routes allow."""
        request.setHeader(b"allow", b"GET, HEAD, OPTIONS")
        return text(no_store(request), 200, "")

    @app.route("/__heartbeat__", methods=["GET"])
    async def heartbeat(self, request: IRequest) -> bytes:
        """Answer 200 if every store can keep a crash now and every worker takes submissions, else 503."""
        states = await self._stores.check_each()
        stores = {
            state.name: {"problem": state.problem, "cautions": list(state.cautions), **state.figures}
            for state in states
        }
        healthy = not any(state.problem for state in states) and not self.hung_workers
        losing = not self._stores.takes_crashes
        pressure = IN_WORDS[self._stores.pressure.level]
        status = (
            "CRASHES ARE BEING LOST" if losing else "error" if not healthy else "disk pressure" if pressure else "ok"
        )
        answer: dict[str, object] = {"status": status, "stores": stores}
        if pressure:
            answer["pressure"] = pressure
        if self.hung_workers:
            answer["hung_workers"] = self.hung_workers
        return json_text(no_store(request), 200 if healthy and not losing else 503, answer)

    @app.route("/__lbheartbeat__", methods=["GET"])
    def lbheartbeat(self, request: IRequest) -> bytes:
        """Answer 200 if a load balancer should send reports here, else 503. No store is waited for."""
        no_store(request)
        if self.draining:
            return text(request, 503, "draining\n")
        if not self._stores.takes_crashes:
            return text(request, 503, "no store takes crashes\n")
        return text(request, 200, "")

    @app.route("/__version__", methods=["GET"])
    def version(self, request: IRequest) -> bytes:
        """Answer with the versions of what runs here."""
        return json_text(no_store(request), 200, self._version)

    @app.handle_errors(HTTPException)
    def no_route(self, request: IRequest, failure: Failure) -> bytes:
        """Answer 404 if there is no such path, 405 if it does not allow the method."""
        if isinstance(failure.value, MethodNotAllowed):
            return not_allowed(request, ", ".join(failure.value.valid_methods or ()).encode())
        return text(request, 404, "Not found\n")

    @app.handle_errors(Exception)
    def broken(self, request: IRequest, failure: Failure) -> bytes:
        """Answer 500, and log the failure, which is a defect of ours."""
        self._log.failure("a defect: a request could not be answered", failure)
        return text(request, 500, "Internal error\n")


class _Routes(KleinResource):
    """
    All routes. Those of submissions are in the table of dialects: what a request asks for was found when its headers
    came, and is not looked for once more.
    """

    def __init__(self, app: Klein, site: PublicSite) -> None:
        super().__init__(app)
        self._site = site

    def render(self, request: IRequest) -> KleinRenderable:
        if isinstance(request, StreamingRequest):
            if isinstance(request.body, ReportReceiver):
                self._site.answer(request, request.body)
                return NOT_DONE_YET  # type: ignore[return-value]
            asked = self._site.dialects.find(unquote_to_bytes(request.path), request)
            if asked is not None:
                request.write(other_method(request, asked.dialect))
                request.finish()  # for HEAD, Twisted would log a text that is returned, with the URL, and so the key
                return NOT_DONE_YET  # type: ignore[return-value]
        return super().render(request)
