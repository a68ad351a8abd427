"""
A publisher that posts crash ids to a web hook. Everything here is for the reactor thread.
"""

from typing import Any

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
from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.urls import http_parts, redacted_url, without_quoting_input

_SERVER_ERROR = 500
_MAX_BODY = 65536
"""The most bytes that are read of the body of a response. A new connection is cheaper than the rest of a longer one."""


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
    This publisher posts the bare id as C{text/plain}. Any status 2xx confirms it.

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
        code = await self._status_of("POST", crash.crash_id.encode())
        if not 200 <= code < 300:
            raise self._refused(code)

    async def check(self) -> None:
        """
        Ask for the URL with HEAD, since more can't be known without publishing an id.

        A status 3xx or 5xx fails, and no answer at all. Many hooks take nothing but POST, and refuse HEAD (401, 404,
        405), so any other status proves nothing.
        """
        code = await self._status_of("HEAD", None)
        if code >= _SERVER_ERROR or 300 <= code < 400:
            raise self._refused(code)

    async def close(self) -> None:
        await self._pool.closeCachedConnections()

    def _refused(self, code: int) -> PublishError:
        why = ", a redirect, which is not followed" if 300 <= code < 400 else ""
        return PublishError(f"{self.name}: answered {code}{why}")

    async def _status_of(self, method: str, data: bytes | None) -> int:
        """Return the status of the response; raise L{PublishError} if no whole response comes in time."""
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

    async def _send(self, method: str, data: bytes | None) -> int:
        """
        Send one request, and return the status once the body of the response has come to its end.

        A redirect is not followed: the id and the token are for the server of the settings and for no other.
        """
        response = await self._client.request(
            method, self._settings.url, data=data, headers=self._headers, allow_redirects=False, unbuffered=True
        )
        body = _UnwantedBody()
        response.deliverBody(body)
        await body.done
        return int(response.code)


class _UnwantedBody(Protocol):
    """
    This protocol reads the body of a response and keeps nothing of it. After that the connection can be used again.

    @ivar done: fires at the end of the body, or once it is too long. A cancel of it closes the connection.
    """

    def __init__(self) -> None:
        self._read = 0
        self.done: Deferred[None] = Deferred(lambda done: self._hang_up())

    def dataReceived(self, data: bytes) -> None:
        self._read += len(data)
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
