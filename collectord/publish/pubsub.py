"""
A publisher that sends crash ids to a topic of Google's Pub/Sub.
"""

from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from google.api_core.exceptions import GoogleAPIError
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud.pubsub_v1 import PublisherClient
from pydantic import Field, field_validator
from zope.interface import implementer

from collectord.concurrency.lazily import Lazily
from collectord.concurrency.threadpool import ThreadPool
from collectord.errors import PublishError
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.plugins import PluginContext, PluginSettings, PluginType

_THREADS = 8


class PubsubSettings(PluginSettings):
    """
    The settings of a publisher of C{type = "pubsub"}.

    Credentials come by the usual chain of Google's clients. If the environment has C{PUBSUB_EMULATOR_HOST}, that server
    is used.
    """

    project: str = Field(min_length=1)
    topic: str = Field(min_length=1)
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("project", "topic")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if "/" in name:
            raise ValueError("must be the name alone, without projects/ and topics/")
        return name


@implementer(ICrashPublisher)
class PubsubPublisher:
    """This publisher sends each id as one message, whose data is the bare id."""

    def __init__(self, settings: PubsubSettings, threads: ThreadPool) -> None:
        self._threads = threads
        self._client: Lazily[Any] = Lazily(PublisherClient)  # looks for credentials, so it may block
        self._topic = f"projects/{settings.project}/topics/{settings.topic}"
        self._timeout = settings.timeout_s / 2
        self.name = f"pubsub {self._topic}"

    async def publish(self, crash: Crash) -> None:
        await self._do(lambda: self._publish(crash.crash_id.encode()))

    def _publish(self, data: bytes) -> None:
        retry = Retry(deadline=self._timeout)
        self._client().publish(self._topic, data, retry=retry, timeout=self._timeout).result(self._timeout * 2)

    async def check(self) -> None:
        await self._do(lambda: self._client().get_topic(topic=self._topic, retry=None, timeout=self._timeout))

    async def close(self) -> None:
        try:
            await self._threads(lambda: self._client.drop(_close))
        finally:
            self._threads.close()

    async def _do(self, work: Callable[[], Any]) -> None:
        try:
            await self._threads(work)
        except (GoogleAPIError, GoogleAuthError, FutureTimeout, OSError) as e:
            raise PublishError(f"{self.name}: {str(e) or repr(e)}") from e


def _close(client: Any) -> None:
    client.stop()
    client.transport.close()


def _make(settings: PubsubSettings, context: PluginContext) -> PubsubPublisher:
    return PubsubPublisher(settings, ThreadPool("pubsub", _THREADS, context.reactor.callFromThread))


PUBSUB = PluginType(PubsubSettings, _make)
"""The entry point C{pubsub} of collectord's own publishers (in C{setup.py}) names this."""
