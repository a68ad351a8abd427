"""
A publisher that posts crash ids to a web hook. Everything here is for the reactor thread.
"""

from typing import Any

from attrs import frozen
from pydantic import Field, field_validator
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from zope.interface import implementer

from collectord.concurrency.timeouts import with_timeout
from collectord.errors import PublishError, TimedOut
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.net.errors import NETWORK_ERRORS, WRAPPING_ERRORS, innermost_error
from collectord.net.pages import page_in_words
from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.urls import http_parts, redacted_url, without_quoting_input

_SERVER_ERROR = 500
_MAX_BODY = 65536
"""The most bytes that are read of the body of a response. A new connection is cheaper than the rest of a longer one."""

_KEPT = 4096
"""How many bytes of a body are looked at."""


class HttpPublisherSettings(PluginSettings):
    """
    The settings of a publisher of C{type = "http"}.

    @ivar url: where ids are posted to. It is hidden in the repr, since its path or query may hold a secret.
    @ivar token: a bearer token that is sent with each request; empty: none is sent. It has visible ASCII characters
        only, so that it can't end the header and begin another one.
    @ivar timeout_s: seconds that one whole request may take, from connecting to the end of the response's body.
    """

    url: str = Field(repr=False)
    token: str = Field(default="", repr=False, pattern=r"^[!-~]*$")
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input("must be http://host/path, or https; a secret goes into token"):
            if http_parts(url).username is not None:  # It is "" if there is a password without a user.
                raise ValueError("it has a user or a password")
        return url


@implementer(ICrashPublisher)
class HttpPublisher:
    """
    This publisher posts the bare id as C{text/plain}. Any status 2xx confirms it, but not with a page for people: the
    portal of a network, or a login before the hook, answers so and keeps nothing.

    If the server has closed a connection that was kept for the next id, the request on it fails, and the crashmover
    publishes that id again later.
    """

    def __init__(self, settings: HttpPublisherSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self.name = redacted_url(settings.url)
        self._pool = HTTPConnectionPool(reactor)
        # Without connectTimeout Twisted gives up connecting after 30 s, even if the whole request may take longer.
        self._client = HTTPClient(Agent(reactor, connectTimeout=settings.timeout_s, pool=self._pool))
        self._headers = Headers({"Content-Type": ["text/plain"]})
        if settings.token:
            self._headers.addRawHeader("Authorization", f"Bearer {settings.token}")

    async def publish(self, crash: Crash) -> None:
        reply = await self._ask("POST", crash.crash_id.encode())
        if not 200 <= reply.code < 300:
            raise self._refused(reply.code)
        if page := page_in_words(reply.beginning):
            raise PublishError(f"{self.name}: answered {reply.code} with {page}, so it is no hook")

    async def check(self) -> None:
        """
        Ask for the URL with HEAD, since more can't be known without publishing an id.

        A status 3xx or 5xx fails, and no answer at all. Many hooks take nothing but POST, and refuse HEAD (401, 404,
        405), so any other status proves nothing.
        """
        code = (await self._ask("HEAD", None)).code
        if code >= _SERVER_ERROR or 300 <= code < 400:
            raise self._refused(code)

    async def close(self) -> None:
        await self._pool.closeCachedConnections()

    def _refused(self, code: int) -> PublishError:
        why = ", a redirect, which is not followed" if 300 <= code < 400 else ""
        return PublishError(f"{self.name}: answered {code}{why}")

    async def _ask(self, method: str, data: bytes | None) -> "_Reply":
        """Return what was answered; raise L{PublishError} if no whole response comes in time."""
        try:
            return await with_timeout(self._send(method, data), self._settings.timeout_s, self._reactor, self.name)
        except TimedOut as e:
            raise PublishError(str(e)) from e
        except (*WRAPPING_ERRORS, *NETWORK_ERRORS) as e:
            error = innermost_error(e)
            # Twisted wraps a cancel, or raises an error of its own while it connects. The cancel of a time limit comes
            # out as TimedOut above, so this one is the caller's, who waits for a CancelledError.
            if isinstance(error, CancelledError | ConnectingCancelledError):
                raise CancelledError from e
            raise PublishError(f"{self.name}: {error}") from e

    async def _send(self, method: str, data: bytes | None) -> "_Reply":
        """
        Send one request, and return what was answered once the body of the response has come to its end.

        A redirect is not followed: the id and the token are for the server of the settings and for no other.
        """
        response = await self._client.request(
            method, self._settings.url, data=data, headers=self._headers, allow_redirects=False, unbuffered=True
        )
        body = _UnwantedBody()
        response.deliverBody(body)
        await body.done
        return _Reply(int(response.code), body.beginning)


@frozen
class _Reply:
    """@ivar beginning: of the body."""

    code: int
    beginning: bytes


class _UnwantedBody(Protocol):
    """
    This protocol reads the body of a response and keeps only its beginning. After that the connection can be used
    again.

    @ivar beginning: what is kept.
    @ivar done: fires at the end of the body, or once it is too long. A cancel of it closes the connection.
    """

    def __init__(self) -> None:
        self._read = 0
        self.beginning = b""
        self.done: Deferred[None] = Deferred(lambda done: self._hang_up())

    def dataReceived(self, data: bytes) -> None:
        self._read += len(data)
        self.beginning += data[: _KEPT - len(self.beginning)]
        if self._read > _MAX_BODY and not self.done.called:
            self._hang_up()
            self.done.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):  # The latter ends a body that is as long as its connection.
            self.done.callback(None)
        else:
            self.done.errback(reason)

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _make(settings: HttpPublisherSettings, context: PluginContext) -> HttpPublisher:
    return HttpPublisher(settings, context.reactor)


HTTP = PluginType(HttpPublisherSettings, _make)
"""The entry point C{http} of collectord's own publishers (in C{setup.py}) names this."""
