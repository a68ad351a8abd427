"""
Crashes posted to another collector: collectord, Socorro's or Antenna.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from weakref import WeakSet

import treq
from attrs import define, field, frozen
from OpenSSL import SSL, crypto
from pydantic import Field, field_validator, model_validator
from service_identity import VerificationError
from twisted.internet import error as net
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.web import client
from twisted.web.http import OK, UNAUTHORIZED
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS
from zope.interface import implementer

from collectord import __version__
from collectord.concurrency.threadpool import ThreadPool
from collectord.errors import ConfigError, CrashRejectedByStore, StorageError
from collectord.interfaces import ICrashStorage
from collectord.model import SENDER, Crash
from collectord.net.errors import NETWORK_ERRORS, WRAPPERS, innermost
from collectord.net.twisted_private import is_unfinished
from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.urls import shown_url, telling_nothing, without_secrets
from collectord.storage.http.body import PiecesProducer, gzipped, make_report

_ANSWER = 4096
_CONNECT_S = 10.0
_IDLE_S = 10
"""A connection is not used again after so long: collectors close idle ones, and that may cross with a post."""

_Fields = dict[str, list[str]]
_AGENT: _Fields = {"User-Agent": [f"collectord/{__version__}"]}
_GZIP_THREADS = 2
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_URL = re.compile("https?://[!-~]+")
_REFUSALS = frozenset({400, 408, 413, 422})
_NOT_KEPT = re.compile(rb"Discarded=(rule|malformed)_|Unsupported=")
"""It is well, and has judged this crash."""


class HttpDestinationSettings(PluginSettings):
    """
    @ivar url: where reports are posted.
    @ivar token: the other collector's; lets the crash keep its id.
    @ivar ca_file: certificates to trust instead of the system's; PEM.
    @ivar server_name: to verify instead of the host in the URL.
    @ivar connections: at the same time, and kept open for the next crash.
    """

    url: str = Field(repr=False)
    token: str = Field(default="", repr=False, pattern=r"^[!-~]*$")
    ca_file: Path | None = None
    server_name: str = ""
    gzip: bool = False
    connections: int = Field(default=8, gt=0, le=1000)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with telling_nothing("must be http://host[:port]/path, or https, in ASCII"):
            parts = urlsplit(url)
            if not _URL.fullmatch(url) or not parts.hostname or parts.port == 0:
                raise ValueError(url)
        if parts.username is not None:
            raise ValueError("has no place for a user and password; the token has")
        return url

    @model_validator(mode="after")
    def _has_tls_where_it_is_set_up(self) -> Self:
        if (self.ca_file or self.server_name) and not self.url.startswith("https:"):
            raise ValueError("ca_file and server_name are for an https url")
        return self


@implementer(ICrashStorage)
class HttpCrashStorage:
    """
    @param stores: the staging ids of those that crashes come from: who has one of them must not take its own for new.
    @ivar name: the URL, without its secrets.
    """

    def __init__(
        self, settings: HttpDestinationSettings, policy: IPolicyForHTTPS, stores: Iterable[str], reactor: Any
    ) -> None:
        self._stores = stores
        self.name = shown_url(settings.url)
        self._settings = settings
        self._policy = policy
        self._reactor = reactor
        self._free = DeferredSemaphore(settings.connections)
        self._pool = client.HTTPConnectionPool(reactor)
        self._aborted: WeakSet[Any] = WeakSet()
        self._pool.maxPersistentPerHost = settings.connections
        self._pool.cachedConnectionTimeout = _IDLE_S
        self._pool.retryAutomatically = False
        self._workers = ThreadPool(f"gzip {self.name}", _GZIP_THREADS, reactor.callFromThread)

    async def close(self) -> None:
        self._workers.close()
        await self._pool.closeCachedConnections()

    async def save(self, crash: Crash) -> str:
        report = make_report(crash, token_hex(16))
        headers = {"Content-Type": [report.content_type]}
        if self._settings.token:
            headers["Authorization"] = [f"Bearer {self._settings.token}"]
            headers[SENDER] = [" ".join(self._stores)]
        if self._settings.gzip:
            headers["Content-Encoding"] = ["gzip"]
            body = PiecesProducer(gzipped(report.pieces(), self._workers), None)
        else:
            body = PiecesProducer(report.pieces(), report.length)
        async with self._free:
            status, answer = await self._exchange(b"POST", headers, body)
        if status != OK or not _is_receipt(answer, crash.crash_id):
            hint = ": is the token right?" if status == UNAUTHORIZED else ""
            kind = CrashRejectedByStore if status in _REFUSALS or _NOT_KEPT.match(answer) else StorageError
            raise kind(f"{self.name}: answered {status} {self._excerpt(answer)}".rstrip() + hint)
        return self.name

    async def check(self) -> Mapping[str, int]:
        status, answer = await self._exchange(b"GET", {}, None)
        if status >= 500:
            raise StorageError(f"{self.name}: answered {status} {self._excerpt(answer)}".rstrip())
        return {}

    def _excerpt(self, answer: bytes) -> str:
        """The beginning of C{answer} on one line. Many servers tell what they were asked, secrets included."""
        text = " ".join(answer.decode(errors="replace").split())
        text = without_secrets(text.replace(urlsplit(self._settings.url).path, urlsplit(self.name).path))[:100]
        return "".join(c if c.isprintable() else "?" for c in text)

    async def _exchange(self, method: bytes, headers: _Fields, body: IBodyProducer | None) -> tuple[int, bytes]:
        answer = bytearray()

        def collect(data: bytes) -> None:
            answer.extend(data[: _ANSWER + 1 - len(answer)])
            if method == b"POST" and len(answer) > _ANSWER:
                raise StorageError(f"{self.name}: answered over {_ANSWER} bytes: no collector")

        with _Lease(self._pool, self._aborted) as lease:
            agent = client.Agent(self._reactor, self._policy, _CONNECT_S, pool=lease)
            try:
                response = await agent.request(method, self._settings.url.encode(), Headers(_AGENT | headers), body)
                if method == b"POST" or response.code >= 500:
                    await treq.collect(response, collect)
            except (*WRAPPERS, *NETWORK_ERRORS) as e:
                raise self._describe_error(e) from e
        return response.code, bytes(answer)

    def _describe_error(self, error: Exception) -> Exception:
        """What to raise for what went wrong below."""
        received = isinstance(error, client.ResponseFailed)
        match error := innermost(error):
            case CancelledError() | net.ConnectingCancelledError():
                return CancelledError()
            case net.ConnectionDone():
                what = "hung up before its answer was complete"
            case net.TimeoutError():
                what = f"no connection within {_CONNECT_S:g} s"
            case VerificationError():
                what = (
                    f"its certificate is not for {self._settings.server_name or urlsplit(self._settings.url).hostname}"
                )
            case SSL.Error():
                what = f"TLS failed: {'; '.join(reason[-1] for reason in error.args[0]) if error.args else 'cut off'}"
                if "certificate verify failed" in what:
                    what += ": its certificate is not trusted"
            case StorageError() | net.ConnectError() | net.ConnectionClosed() | net.DNSLookupError():
                what = str(error).rstrip(".")
            case _:
                what = f"{'its answer is no HTTP' if received else 'the request failed'} ({type(error).__name__})"
        return StorageError(f"{self.name}: {what}")


@define
class _Lease:
    """
    The pool, for one request, after which the connection is in the pool again or gone: also where the answer came
    before the request was sent, which Twisted would go on to send.
    """

    _pool: client.HTTPConnectionPool
    _aborted: WeakSet[Any]
    persistent: bool = True
    _connection: Any = field(default=None, init=False)

    def getConnection(self, key: Any, endpoint: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._get(key, endpoint))

    async def _get(self, key: Any, endpoint: Any) -> Any:
        # One that was aborted in the middle of an answer gets back into the pool if the rest of it was there already.
        while (connection := await self._pool.getConnection(key, endpoint)) in self._aborted:
            pass
        self._connection = connection
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._connection is not None and is_unfinished(self._connection):
            self._aborted.add(self._connection)
            self._connection.transport.abortConnection()


@implementer(IPolicyForHTTPS)
@frozen
class _Verified:
    """
    @ivar server_name: to verify; empty: the host of the URL.
    """

    trust_root: Any
    server_name: str

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return optionsForClientTLS(self.server_name or hostname.decode("ascii"), trustRoot=self.trust_root)


def _trust_root(ca_file: Path) -> Any:
    try:
        found = [Certificate.loadPEM(pem) for pem in _PEM.findall(ca_file.read_bytes())]
    except (OSError, crypto.Error) as e:
        raise ConfigError(f"ca_file = {str(ca_file)!r}: {e}") from e
    if not found:
        raise ConfigError(f"ca_file = {str(ca_file)!r}: there is no PEM certificate in it")
    return trustRootFromCertificates(found)


def _is_receipt(answer: bytes, crash_id: str) -> bool:
    """Whether it says C{CrashID=}, whatever the prefix, and the id."""
    return re.fullmatch(rb"CrashID=(?:.*-)?" + crash_id.encode() + rb"\s*", answer) is not None


def make(settings: HttpDestinationSettings, daemon: PluginContext) -> HttpCrashStorage:
    """
    @raise ConfigError: there is nothing right in C{ca_file}, or a name can't be one.
    """
    trust_root = _trust_root(settings.ca_file) if settings.ca_file else platformTrust()
    policy = client.HostnameCachingHTTPSPolicy(_Verified(trust_root, settings.server_name))
    host = urlsplit(settings.url).hostname or ""
    try:
        policy.creatorForNetloc(host.encode(), 0)
    except ValueError as e:  # Twisted would say so at each connection, in plain HTTP too
        raise ConfigError(f"{settings.server_name or host!r} can't be a host's name: {e}") from e
    return HttpCrashStorage(settings, policy, daemon.stores, daemon.reactor)


HTTP = PluginType(HttpDestinationSettings, make)
