"""
A publisher that sends crash ids to a stream of NATS JetStream, which confirms each.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

from attrs import frozen
from pydantic import Field, field_validator, model_validator
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectionAborted
from twisted.logger import Logger
from zope.interface import implementer

from collectord.concurrency.sharing import SingleFlight
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import PublishError, TimedOut
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.net.errors import NETWORK_ERRORS
from collectord.plugins import PluginContext, PluginType
from collectord.publish.cautions import warn_of_new
from collectord.publish.natsconnection import NatsConnection, NatsError, NoResponders
from collectord.publish.natskeys import NatsCredentials, read_credentials
from collectord.publish.tls import TLS_ERRORS, TlsSettings, client_options, tls_error_in_words
from collectord.settings.urls import without_quoting_input

T = TypeVar("T")

_ERRORS = (NatsError, *TLS_ERRORS, *NETWORK_ERRORS)
_PORT = 4222
_API = "$JS.API.STREAM"
_SUBJECT = re.compile(r"[!-)+-=?-~]+")


class NatsSettings(TlsSettings):
    """
    The settings of a publisher of C{type = "nats"}.

    @ivar url: C{nats://user:password@host:port,host:port}, or C{nats://token@host}; with C{tls://} TLS is used even if
        the server does not insist on it.
    @ivar subject: that ids are published to; a stream has to take it.
    @ivar credentials_file: of a user who has a key.
    @ivar inbox: the beginning of the subjects that answers come to.
    """

    url: str = Field(default="nats://localhost:4222", repr=False)
    subject: str = "socorro.standard"
    credentials_file: Path | None = None
    inbox: str = "_INBOX"
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input(
            "must be nats://<user>:<password>@<host>:<port>,<host>:<port> or tls://…; special characters as %40"
        ):
            list(_servers(url))
        return url

    @field_validator("subject", "inbox")
    @classmethod
    def _is_subject(cls, subject: str) -> str:
        if not _SUBJECT.fullmatch(subject):
            raise ValueError("must be a subject of ASCII characters, without blanks and without wildcards (* >)")
        return subject

    @model_validator(mode="after")
    def _has_one_way_to_log_in(self) -> Self:
        if self.credentials_file is not None and _login(self.url):
            raise ValueError("the user is in the url or in credentials_file, not in both")
        return self


@frozen
class _NatsServer:
    """A server of the URL. @ivar tls: Twisted's options of a TLS connection to it."""

    host: str
    port: int
    tls: Any

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@implementer(ICrashPublisher)
class NatsPublisher:
    """
    This publisher uses one connection, which it makes when an id is to be published, to the first server that answers.

    @ivar cautions: what the stream can't promise, in sentences; known once it was checked.
    """

    _log = Logger()

    def __init__(
        self,
        settings: NatsSettings,
        servers: Sequence[_NatsServer],
        credentials: NatsCredentials | None,
        reactor: Any,
    ) -> None:
        self._settings = settings
        self._servers = list(servers)
        self._credentials = credentials
        self._reactor = reactor
        self.name = f"nats {settings.subject}"
        self.cautions: Sequence[str] = ()
        self._connected = SingleFlight(self._connect)
        self._connection: NatsConnection | None = None
        self._answered_at = float("-inf")
        self._closed = False

    async def publish(self, crash: Crash) -> None:
        answer = await self._asked(self._settings.subject, crash.crash_id.encode())
        # An answer without them is not the stream's: somebody else listens to the subject.
        if not answer.get("stream") or not answer.get("seq"):
            raise PublishError(f"{self.name}: no stream has confirmed the id, but somebody else answers")

    async def check(self) -> None:
        found = await self._asked(f"{_API}.NAMES", json.dumps({"subject": self._settings.subject}).encode())
        names = found.get("streams") or []
        if not names:
            raise PublishError(f"{self.name}: no stream takes this subject")
        info = await self._asked(f"{_API}.INFO.{names[0]}", b"")
        cautions = list(_cautions(str(names[0]), info))
        warn_of_new(self._log, self.name, cautions, self.cautions)
        self.cautions = cautions

    async def close(self) -> None:
        self._closed = True
        self._drop("the publisher is closed")

    async def _asked(self, subject: str, payload: bytes) -> Mapping[str, Any]:
        """
        Return the answer of JetStream to a request.

        @raise PublishError: there is none, or it is an error.
        """
        connection = self._connection
        if connection is None or connection.ended is not None:
            connection = await self._connected()
        began = self._reactor.seconds()
        try:
            answered = await self._in_time(connection.request(subject, payload))
            answer: Any = json.loads(answered)
        except (TimedOut, CancelledError) as e:
            if self._answered_at < began and self._connection is connection:
                self._drop("the server does not answer")
            if isinstance(e, CancelledError):  # by who waits for it, and may have a time limit, too
                raise
            raise PublishError(str(e)) from e
        except NoResponders as e:
            why = "JetStream is not enabled" if subject.startswith(_API) else "no stream takes this subject"
            raise PublishError(f"{self.name}: {why}, or its servers have no leader now") from e
        except _ERRORS as e:
            raise PublishError(f"{self.name}: {self._servers[0]}: {_in_words(e)}") from e
        except ValueError as e:
            raise PublishError(f"{self.name}: the answer is not JSON, so it is not the stream's") from e
        self._answered_at = self._reactor.seconds()
        if not isinstance(answer, dict):
            raise PublishError(f"{self.name}: the answer is not the stream's")
        if isinstance(error := answer.get("error"), dict):
            raise PublishError(f"{self.name}: {error.get('description')} ({error.get('err_code')})")
        return answer

    async def _connect(self) -> NatsConnection:
        """Connect to the first server that lets this client in; the others come first the next time."""
        problems = []
        for _ in range(len(self._servers)):
            server = self._servers[0]
            try:
                return await self._in_time(Deferred.fromCoroutine(self._connect_to(server)))
            except TimedOut:
                problems.append(f"{server}: no answer")
            except _ERRORS as e:
                problems.append(f"{server}: {_in_words(e)}")
            self._drop("it is not let in")
            self._servers = [*self._servers[1:], server]
        raise PublishError(f"{self.name}: {'; '.join(problems)}")

    async def _connect_to(self, server: _NatsServer) -> NatsConnection:
        connection = NatsConnection(
            _login(self._settings.url),
            self._credentials,
            server.tls,
            self._settings.url.startswith("tls://"),
            self._settings.inbox,
        )
        await connectProtocol(HostnameEndpoint(self._reactor, server.host.encode(), server.port), connection)
        if self._closed:  # close() was called while this was connecting, and had no connection to close yet
            connection.opened.addErrback(lambda _: None)  # the abort makes it fail, and nothing waits for it
            connection.abort()
            raise PublishError(f"{self.name}: the publisher is closed")
        self._connection = connection
        await connection.opened
        return connection

    async def _in_time(self, work: Deferred[T]) -> T:
        return await with_timeout(work, self._settings.timeout_s / 2, self._reactor, self.name)

    def _drop(self, why: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort(ConnectionAborted(why))


def _in_words(error: Exception) -> str:
    if problem := tls_error_in_words(error):
        return problem
    return str(error).rstrip(".") or type(error).__name__


def _servers(url: str) -> Iterator[tuple[str, int]]:
    """
    Yield the hosts and ports in C{url}.

    @raise ValueError: it can't be understood; the text may contain all of it.
    """
    scheme, separator, rest = url.partition("://")
    hosts, *more = rest.rpartition("@")[2].split("/")
    if scheme not in ("nats", "tls") or not separator or any(more):
        raise ValueError(url)
    for each in hosts.split(","):
        parts = urlsplit(f"//{each}")
        if not parts.hostname or parts.path or parts.query or parts.fragment or parts.port == 0:
            raise ValueError(url)
        yield parts.hostname, parts.port or _PORT


def _login(url: str) -> Mapping[str, str]:
    user, at, _ = url.partition("://")[2].rpartition("@")
    name, colon, password = user.partition(":")
    if not at:
        return {}
    return {"user": unquote(name), "pass": unquote(password)} if colon else {"auth_token": unquote(name)}


def _cautions(stream: str, info: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a stream can't promise, in sentences, by what the server says of it."""
    config: Mapping[str, Any] = info.get("config") or {}
    state: Mapping[str, Any] = info.get("state") or {}
    if config.get("storage") == "memory":
        yield f"The stream {stream} keeps ids in memory only: when its servers end, they are lost."
    if config.get("retention") == "interest" and not state.get("consumer_count"):
        yield f"The stream {stream} drops each id at once: its retention is interest, and it has no consumer."
    if config.get("discard", "old") == "old" and (config.get("max_msgs", -1) > 0 or config.get("max_bytes", -1) > 0):
        yield f"The stream {stream} drops its oldest ids when it is full: its discard is old, not new."
    # A discard of new does not hold for this limit, unless another setting says so.
    refuses = config.get("discard") == "new" and config.get("discard_new_per_subject")
    if (most := config.get("max_msgs_per_subject", -1)) > 0 and not refuses:
        yield f"The stream {stream} keeps the last {most} ids only: its discard_new_per_subject is not set."
    if age := config.get("max_age"):
        yield f"The stream {stream} drops ids after {age / 1e9:g} s, whether they were read or not."


def _make(settings: NatsSettings, context: PluginContext) -> NatsPublisher:
    servers = [_NatsServer(host, port, client_options(settings, host)) for host, port in _servers(settings.url)]
    credentials = read_credentials(settings.credentials_file) if settings.credentials_file else None
    return NatsPublisher(settings, servers, credentials, context.reactor)


NATS = PluginType(NatsSettings, _make)
"""The entry point C{nats} of collectord's own publishers (in C{setup.py}) names this."""
