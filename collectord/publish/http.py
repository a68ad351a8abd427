"""
A publisher that posts crash ids to a web hook.
"""

from typing import Any

from pydantic import Field, field_validator
from treq import collect
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from zope.interface import implementer

from collectord.concurrency.timeouts import with_timeout
from collectord.errors import PublishError, StoreTimeout
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.net.errors import NETWORK_ERRORS, WRAPPERS, innermost
from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.urls import http_parts, shown_url, telling_nothing

_SERVER_ERROR = 500


class HttpPublisherSettings(PluginSettings):
    """
    The settings of a publisher of C{type = "http"}.

    @ivar token: a bearer token that is sent with each id; empty: none is sent.
    """

    url: str = Field(repr=False)
    token: str = Field(default="", repr=False, pattern=r"^[!-~]*$")
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with telling_nothing("must be http://host/path, or https; a secret goes into token"):
            if http_parts(url).username:
                raise ValueError(url)
        return url


@implementer(ICrashPublisher)
class HttpPublisher:
    """This publisher posts the bare id as C{text/plain}. Any status 2xx confirms it."""

    def __init__(self, settings: HttpPublisherSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self.name = shown_url(settings.url)
        self._pool = HTTPConnectionPool(reactor)
        self._client = HTTPClient(Agent(reactor, connectTimeout=settings.timeout_s, pool=self._pool))
        self._headers = Headers({"Content-Type": ["text/plain"]})
        if settings.token:
            self._headers.addRawHeader("Authorization", f"Bearer {settings.token}")

    async def publish(self, crash: Crash) -> None:
        code = await self._answer("POST", crash.crash_id.encode())
        if not 200 <= code < 300:
            raise PublishError(f"{self.name}: answered {code}")

    async def check(self) -> None:
        """Ask with HEAD whether the server answers. More can't be known without publishing an id."""
        code = await self._answer("HEAD", None)
        if code >= _SERVER_ERROR:
            raise PublishError(f"{self.name}: answered {code}")

    async def close(self) -> None:
        await self._pool.closeCachedConnections()

    async def _answer(self, method: str, data: bytes | None) -> int:
        try:
            return await with_timeout(self._ask(method, data), self._settings.timeout_s, self._reactor, self.name)
        except StoreTimeout as e:
            raise PublishError(str(e)) from e
        except (*WRAPPERS, *NETWORK_ERRORS) as e:
            error = innermost(e)
            if isinstance(error, CancelledError):  # the caller has cancelled this
                raise error from e
            raise PublishError(f"{self.name}: {error}") from e

    async def _ask(self, method: str, data: bytes | None) -> int:
        response = await self._client.request(
            method, self._settings.url, data=data, headers=self._headers, allow_redirects=False
        )
        await collect(response, lambda piece: None)
        return int(response.code)


def _make(settings: HttpPublisherSettings, daemon: PluginContext) -> HttpPublisher:
    return HttpPublisher(settings, daemon.reactor)


HTTP = PluginType(HttpPublisherSettings, _make)
