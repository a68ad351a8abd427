"""
A publisher that adds crash ids to a stream in Redis.
"""

from collections.abc import Callable
from typing import Any

from pydantic import Field, field_validator
from redis import Redis
from redis.exceptions import RedisError
from zope.interface import implementer

from collectord.concurrency.threadpool import ThreadPool
from collectord.errors import PublishError
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.urls import without_quoting_input

_THREADS = 4


class RedisSettings(PluginSettings):
    """
    The settings of a publisher of C{type = "redis"}.

    @ivar url: C{redis://user:password@host:port/db}, or C{rediss}, or C{unix}.
    @ivar maxlen: about how many entries Redis keeps, before it removes the oldest; 0: it keeps all.
    """

    url: str = Field(default="redis://localhost:6379/0", repr=False)
    stream: str = Field(default="socorro.standard", min_length=1)
    maxlen: int = Field(default=0, ge=0)
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input(
            "must be redis://user:password@host:port/db, or rediss, or unix; special characters as %40"
        ):
            Redis.from_url(url).close()
        return url


@implementer(ICrashPublisher)
class RedisPublisher:
    """This publisher adds an entry with one field, C{crash_id}, for each id."""

    def __init__(self, settings: RedisSettings, threads: ThreadPool) -> None:
        self._settings = settings
        self._threads = threads
        self.name = f"redis {settings.stream}"
        self._redis = Redis.from_url(
            settings.url, socket_timeout=settings.timeout_s / 2, socket_connect_timeout=settings.timeout_s / 2
        )

    async def publish(self, crash: Crash) -> None:
        maxlen = self._settings.maxlen or None
        await self._do(lambda: self._redis.xadd(self._settings.stream, {"crash_id": crash.crash_id}, maxlen=maxlen))

    async def check(self) -> None:
        await self._do(self._redis.ping)

    async def close(self) -> None:
        self._redis.close()
        self._threads.close()

    async def _do(self, work: Callable[[], Any]) -> None:
        try:
            await self._threads(work)
        except (RedisError, OSError) as e:
            raise PublishError(f"{self.name}: {e}") from e


def _make(settings: RedisSettings, context: PluginContext) -> RedisPublisher:
    return RedisPublisher(settings, ThreadPool("redis", _THREADS, context.reactor.callFromThread))


REDIS = PluginType(RedisSettings, _make)
"""The entry point C{redis} of collectord's own publishers (in C{setup.py}) names this."""
