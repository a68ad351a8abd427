"""
A publisher that adds crash ids to a stream in Redis.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

from pydantic import Field, field_validator, model_validator
from redis import Redis
from redis.exceptions import MovedError, ReadOnlyError, RedisError
from redis.sentinel import MasterNotFoundError
from twisted.logger import Logger
from zope.interface import implementer

from collectord.concurrency.threadpool import ThreadPool
from collectord.errors import PublishError
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.plugins import PluginContext, PluginType
from collectord.publish.cautions import warn_of_new
from collectord.publish.redischeck import cautions_about, refuse_unwritable
from collectord.publish.redisclient import RedisConnections, hosts_of, make_client, refusal_in_words
from collectord.publish.tls import TlsSettings, refuse_unusable_files
from collectord.settings.urls import without_quoting_input

_THREADS = 4
_LONGEST = 300
_WAIT_MS = 400
"""
How many milliseconds of each second of the time limit the replicas may take. They are less than half, since the client
gives the server up when half of the time limit is over.
"""


class RedisSettings(TlsSettings):
    """
    The settings of a publisher of C{type = "redis"}.

    @ivar url: C{redis://user:password@host:port/db}, C{unix:///path}, or
        C{redis+sentinel://user:password@host:port,host:port/service/db}; C{rediss} instead of C{redis} for TLS.
    @ivar maxlen: about how many entries Redis keeps, before it removes the oldest; 0: it keeps all.
    @ivar replicas: how many replicas have to have an id before it counts as published.
    """

    url: str = Field(default="redis://localhost:6379/0", repr=False)
    stream: str = Field(default="socorro.standard", min_length=1)
    maxlen: int = Field(default=0, ge=0)
    replicas: int = Field(default=0, ge=0)
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input(
            "must be redis://<user>:<password>@<host>:<port>/<number>, or rediss, or unix:///<path>, "
            "or redis+sentinel://<user>:<password>@<host>:<port>,<host>:<port>/<service>/<number>, and after a ? "
            "options that the Redis library knows; special characters as %40"
        ):
            make_client(url, {}).connection_pool.make_connection()  # refuses options that it does not know
        return url

    @model_validator(mode="after")
    def _has_tls_where_it_is_set_up(self) -> Self:
        if self.sets_up_tls and not self.url.startswith("rediss"):
            raise ValueError("ca_file, cert_file and key_file need a rediss:// or rediss+sentinel:// url")
        return self

    def client(self) -> Redis:
        """Make a client, which connects to nothing yet."""
        half = self.timeout_s / 2
        options: dict[str, Any] = {"socket_timeout": half, "socket_connect_timeout": half}
        files = {"ssl_ca_certs": self.ca_file, "ssl_certfile": self.cert_file, "ssl_keyfile": self.key_file}
        options |= {name: str(file) for name, file in files.items() if file is not None}
        return make_client(self.url, options)


@implementer(ICrashPublisher)
class RedisPublisher:
    """
    This publisher adds an entry with one field, C{crash_id}, for each id.

    @ivar cautions: what the server can't promise, in sentences; known once it was checked.
    """

    _log = Logger()

    def __init__(self, settings: RedisSettings, threads: ThreadPool) -> None:
        self._settings = settings
        self._threads = threads
        self._connections = RedisConnections(settings.client)
        self.name = f"redis {settings.stream}"
        self._where = hosts_of(settings.url)
        self.cautions: Sequence[str] = ()

    async def publish(self, crash: Crash) -> None:
        await self._do(partial(self._add, crash.crash_id))

    def _add(self, crash_id: str, client: Redis) -> None:
        settings = self._settings
        # Both commands have to use the same connection: Redis waits for the replicas to have what came by that.
        with client.pipeline(transaction=False) as commands:
            commands.xadd(settings.stream, {"crash_id": crash_id}, maxlen=settings.maxlen or None)
            if settings.replicas:
                commands.execute_command("WAIT", settings.replicas, max(1, int(settings.timeout_s * _WAIT_MS)))
            _, *waited = commands.execute()
        if waited and waited[0] < settings.replicas:
            raise PublishError(f"has brought the id to {waited[0]} of {settings.replicas} replicas in time")

    async def check(self) -> None:
        cautions = await self._do(self._examined)
        warn_of_new(self._log, self.name, cautions, self.cautions)
        self.cautions = cautions

    def _examined(self, client: Redis) -> Sequence[str]:
        refuse_unwritable(client, self._settings.stream)
        return list(cautions_about(client))

    async def close(self) -> None:
        self._connections.close()
        self._threads.close()

    async def _do(self, work: Callable[[Redis], Any]) -> Any:
        try:
            return await self._threads(partial(self._connections.use, work))
        except PublishError as e:
            raise PublishError(f"{self.name}: {self._where} {e}") from e
        except (RedisError, OSError) as e:
            raise PublishError(f"{self.name}: {self._in_words(e)}") from e

    def _in_words(self, error: Exception) -> str:
        if isinstance(error, MasterNotFoundError):
            return str(error)
        if isinstance(error, ReadOnlyError):
            return f"{self._where} is a replica by now, which takes no writes ({error})"
        if isinstance(error, MovedError):
            return f"{self._where} is one of a cluster, which is not supported: the stream is elsewhere ({error})"
        if problem := refusal_in_words(error):
            return f"{self._where}: {problem}"
        text = " ".join((str(error) or repr(error)).split())
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"  # of what does not speak Redis, all it says
        return text if self._where in text else f"{self._where}: {text}"


def _make(settings: RedisSettings, context: PluginContext) -> RedisPublisher:
    refuse_unusable_files(settings)
    return RedisPublisher(settings, ThreadPool("redis", _THREADS, context.reactor.callFromThread))


REDIS = PluginType(RedisSettings, _make)
"""The entry point C{redis} of collectord's own publishers (in C{setup.py}) names this."""
