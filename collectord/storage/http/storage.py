"""
The destination C{type = "http"}: it posts crashes to another collector, which may be collectord, Socorro's or Antenna.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any, Self
from urllib.parse import urljoin, urlsplit
from weakref import WeakSet

import treq
from attrs import frozen
from OpenSSL import SSL, crypto
from pydantic import Field, field_validator, model_validator
from service_identity import VerificationError
from twisted.internet import error as net
from twisted.internet.defer import CancelledError, DeferredSemaphore
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.web import client
from twisted.web.http import OK, UNAUTHORIZED
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS
from zope.interface import implementer

from collectord import __version__
from collectord.concurrency.threadpool import ThreadPool
from collectord.errors import ConfigError, CrashRejectedByStore, StorageError, UnclearRefusal
from collectord.interfaces import ICrashStorage
from collectord.model import SENDER, SENDER_NOTES, Crash
from collectord.net.errors import NETWORK_ERRORS, WRAPPING_ERRORS, innermost_error
from collectord.net.pages import page_in_words
from collectord.net.pem import certificates_in
from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.urls import http_parts, redacted_url, without_quoting_input, without_secrets
from collectord.storage.http.body import PiecesProducer, gzipped, make_report, notes_of
from collectord.storage.http.lease import Lease

_ANSWER = 4096
"""The most bytes of an answer: no collector sends more."""
_CONNECT_S = 10.0
_IDLE_S = 10
"""Seconds after which an idle connection is not used again: its collector may close it just when we post to it."""

_Fields = dict[str, list[str]]
_AGENT: _Fields = {"User-Agent": [f"collectord/{__version__}"]}
_GZIP_THREADS = 2
_URL = re.compile("https?://[!-~]+")
_REFUSALS = frozenset({400, 408, 413, 415, 422, 431})
"""Statuses by which a collector that works refuses this one report."""
_NOT_KEPT = re.compile(rb"Discarded=(rule|malformed)_|Unsupported=")
"""Answers by which a collector that works says that it does not keep this one report."""


class HttpDestinationSettings(PluginSettings):
    """
    The settings of a destination of C{type = "http"}.

    @ivar url: where the other collector takes reports.
    @ivar token: the C{submitter_token} of the other collector, which lets the crash keep its id.
    @ivar ca_file: a PEM file of certificates to trust instead of the system's.
    @ivar server_name: the name that the certificate has to be for, instead of the host in the URL.
    @ivar connections: how many may be open at the same time. They are kept open for the next crash.
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
        with without_quoting_input("must be http or https, in ASCII, as in http://127.0.0.1:8000/submit"):
            parts = http_parts(url)
            if not _URL.fullmatch(url):
                raise ValueError("it is not in ASCII")
        if parts.username is not None:
            raise ValueError("must not have a user and password in it; use the key token")
        return url

    @model_validator(mode="after")
    def _has_tls_where_it_is_set_up(self) -> Self:
        if (self.ca_file or self.server_name) and not self.url.startswith("https:"):
            raise ValueError("ca_file and server_name need an https url")
        return self


@implementer(ICrashStorage)
class HttpCrashStorage:
    """
    This destination posts each crash to another collector, and takes the CrashID in its answer for the confirmation.

    @param stores: the staging ids of the stores that crashes are moved out of. They are sent along, so that a
        collectord which has one of these stores itself refuses the crash.
    @ivar name: the URL, without its secrets.
    """

    def __init__(
        self, settings: HttpDestinationSettings, policy: IPolicyForHTTPS, stores: Iterable[str], reactor: Any
    ) -> None:
        self._stores = stores
        self.name = redacted_url(settings.url)
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
        # Without this header another collectord would keep the crash by an id of its own, again at each new try.
        authorization = f"Bearer {self._settings.token}".rstrip()
        headers = {"Content-Type": [report.content_type], "Authorization": [authorization]}
        if self._settings.token:
            headers[SENDER] = [" ".join(self._stores)]
            if notes := notes_of(crash):
                headers[SENDER_NOTES] = [notes]
        if self._settings.gzip:
            headers["Content-Encoding"] = ["gzip"]
            body = PiecesProducer(gzipped(report.pieces(), self._workers), None)
        else:
            body = PiecesProducer(report.pieces(), report.length)
        async with self._free:
            status, answer = await self._exchange(b"POST", self._settings.url, headers, body)
        if status != OK or not _is_receipt(answer, crash.crash_id):
            hint = ": is the token right?" if status == UNAUTHORIZED else ""
            kind = CrashRejectedByStore if status in _REFUSALS or _NOT_KEPT.match(answer) else UnclearRefusal
            raise kind(self._refused(status, answer) + hint)
        return self.name

    async def check(self) -> Mapping[str, int]:
        url = self._settings.url
        status, answer = await self._exchange(b"GET", url, {}, None)
        is_for_people = 300 <= status < 400 or (status < 300 and page_in_words(answer))
        if status >= 500 or (is_for_people and not await self._tells_version()):
            raise StorageError(self._refused(status, answer))
        return {}

    async def _tells_version(self) -> bool:
        """
        Tell whether a C{/__version__} beside the URL answers as that of a collector does.

        A collector may have a page for people who look where it takes reports. What is in its place, such as the portal
        of a network, has one for every path. Nothing is posted to find that out: a collector might keep it.
        """
        url = urljoin(self._settings.url.partition("?")[0].rstrip("/"), "__version__")
        status, answer = await self._exchange(b"GET", url, {}, None)
        try:
            return status == OK and isinstance(json.loads(answer), dict)
        except (ValueError, RecursionError):
            return False

    def _refused(self, status: int, answer: bytes) -> str:
        if 300 <= status < 400:
            return f"{self.name}: answered {status}, a redirect, which is not followed"
        if page := page_in_words(answer):
            return f"{self.name}: answered {status} with {page}, so it is no collector"
        return f"{self.name}: answered {status} {self._excerpt(answer)}".rstrip()

    def _excerpt(self, answer: bytes) -> str:
        """
        Return the beginning of C{answer} on one line.

        Many servers quote the URL that they were asked for, so the secrets in it are hidden.
        """
        text = " ".join(answer.decode(errors="replace").split())
        text = without_secrets(text.replace(urlsplit(self._settings.url).path, urlsplit(self.name).path))[:100]
        return "".join(c if c.isprintable() else "?" for c in text)

    async def _exchange(
        self, method: bytes, url: str, headers: _Fields, body: IBodyProducer | None
    ) -> tuple[int, bytes]:
        answer = bytearray()

        def collect(data: bytes) -> None:
            answer.extend(data[: _ANSWER + 1 - len(answer)])
            if method == b"POST" and len(answer) > _ANSWER:
                raise StorageError(f"{self.name}: answered with more than {_ANSWER} bytes, so it is no collector")

        with Lease(self._pool, self._aborted) as lease:
            agent = client.Agent(self._reactor, self._policy, _CONNECT_S, pool=lease)
            try:
                response = await agent.request(method, url.encode(), Headers(_AGENT | headers), body)
                if method == b"POST" or response.code >= 500 or response.code < 300:
                    await treq.collect(response, collect)
            except (*WRAPPING_ERRORS, *NETWORK_ERRORS) as e:
                raise self._describe_error(e) from e
        return response.code, bytes(answer)

    def _describe_error(self, error: Exception) -> Exception:
        """Make the exception to raise for one that was raised by Twisted or by TLS."""
        received = isinstance(error, client.ResponseFailed)
        match error := innermost_error(error):
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


@implementer(IPolicyForHTTPS)
@frozen
class _Verified:
    """
    A TLS policy that verifies certificates with certain certificates to trust, and perhaps with another name.

    @ivar server_name: the name that the certificate has to be for; empty: the host of the URL.
    """

    trust_root: Any
    server_name: str

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return optionsForClientTLS(self.server_name or hostname.decode("ascii"), trustRoot=self.trust_root)


def _trust_root(ca_file: Path) -> Any:
    try:
        found = certificates_in(ca_file)
    except (OSError, crypto.Error) as e:
        raise ConfigError(f"ca_file = {str(ca_file)!r}: {e}") from e
    if not found:
        raise ConfigError(f"ca_file = {str(ca_file)!r}: there is no PEM certificate in it")
    return trustRootFromCertificates(found)


def _is_receipt(answer: bytes, crash_id: str) -> bool:
    """Tell whether C{answer} is C{CrashID=} with this id, with or without a prefix, and perhaps with a C{ViewURL=}."""
    receipt = rb"CrashID=(?:.*-)?" + crash_id.encode() + rb"(?:\nViewURL=\S+)?\s*"
    return re.fullmatch(receipt, answer) is not None


def make(settings: HttpDestinationSettings, context: PluginContext) -> HttpCrashStorage:
    """
    Make a destination of C{type = "http"}. It reads C{ca_file}, and connects to nothing yet.

    @raise ConfigError: C{ca_file} can't be read or has no certificate, or the host can't be the name of a host.
    """
    trust_root = _trust_root(settings.ca_file) if settings.ca_file else platformTrust()
    policy = client.HostnameCachingHTTPSPolicy(_Verified(trust_root, settings.server_name))
    host = urlsplit(settings.url).hostname or ""
    try:
        policy.creatorForNetloc(host.encode(), 0)
    except ValueError as e:  # otherwise Twisted would raise this at each connection, also without TLS
        raise ConfigError(f"{settings.server_name or host!r} can't be a host's name: {e}") from e
    return HttpCrashStorage(settings, policy, context.stores, context.reactor)


HTTP = PluginType(HttpDestinationSettings, make)
"""The entry point C{http} of collectord's own destinations (in C{setup.py}) names this."""
