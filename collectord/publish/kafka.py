"""
A publisher that adds crash ids to a topic of Kafka.
"""

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pydantic import Field, field_validator, model_validator
from twisted.internet.defer import Deferred
from zope.interface import implementer

from collectord.concurrency.lazily import Lazily
from collectord.concurrency.threadpool import CallFromThread, ThreadPool, start_thread
from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.plugins import PluginContext, PluginType
from collectord.publish.tls import TlsSettings, refuse_unusable_files

_THREADS = 2
_HOSTS = re.compile(r"[^\s,/]+(,[^\s,/]+)*")
_POLL_S = 1.0
"""How long the thread that takes the reports of deliveries waits for one, before it looks whether it should end."""
_SILENT = logging.getLogger("collectord.kafka")
"""What librdkafka would say besides its errors, to the terminal."""
_SILENT.disabled = True
_KEPT_BY_ALL = {"acks": "all", "enable.idempotence": True}
"""A message is confirmed once every replica that is in sync has it, and one that is sent again is kept once."""


class KafkaSettings(TlsSettings):
    """
    The settings of a publisher of C{type = "kafka"}.

    @ivar servers: the brokers to ask first, as C{host:port,host:port}.
    @ivar tls: whether connections use TLS. They do if C{ca_file} or C{cert_file} is set, too.
    @ivar user: for SASL; empty: the brokers ask for no password.
    @ivar mechanism: of SASL.
    @ivar options: more settings of librdkafka, by the names in its CONFIGURATION.md.
    """

    servers: str = "localhost:9092"
    topic: str = Field(default="socorro.standard", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    tls: bool = False
    user: str = ""
    password: str = Field(default="", repr=False)
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    options: dict[str, str | int | bool] = Field(default={}, repr=False)
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("servers")
    @classmethod
    def _are_hosts(cls, servers: str) -> str:
        if not _HOSTS.fullmatch(servers):
            raise ValueError("must be host:port,host:port, without a scheme and without blanks")
        return servers

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if bool(self.user) != bool(self.password):
            raise ValueError("set both user and password, or neither")
        return self

    @model_validator(mode="after")
    def _keeps_what_is_promised(self) -> Self:
        for name in self.options:
            if name in self.configuration(with_options=False):
                raise ValueError(f"options: {name} is set by collectord itself")
        return self

    def configuration(self, *, with_options: bool = True) -> dict[str, Any]:
        """Return what librdkafka is to be set to."""
        half_ms = max(int(self.timeout_s * 500), 1)
        layers = ("sasl_" if self.user else "") + ("ssl" if self.tls or self.sets_up_tls else "plaintext")
        files = {
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.cert_file,
            "ssl.key.location": self.key_file or self.cert_file,
        }
        return {
            "bootstrap.servers": self.servers,
            "security.protocol": layers,
            "message.timeout.ms": half_ms,
            "socket.timeout.ms": max(half_ms, 10),
            "linger.ms": 0,
            **_KEPT_BY_ALL,
            **{name: str(file) for name, file in files.items() if file is not None},
            **(
                {"sasl.mechanism": self.mechanism, "sasl.username": self.user, "sasl.password": self.password}
                if self.user
                else {}
            ),
            **(self.options if with_options else {}),
        }


class _Connection:
    """
    A connection to the brokers, with a thread of its own that takes the reports of deliveries.

    It may be made and used on any thread. librdkafka does not survive a fork, so it is made after the daemon's.

    @param failed: called on that thread with what is wrong, in words, when a broker can't be used.
    """

    def __init__(self, settings: KafkaSettings, name: str, failed: Callable[[str], None]) -> None:
        def report(error: KafkaError) -> None:
            if error.name() != "_ALL_BROKERS_DOWN":  # of each of them it was said why
                failed(error.str())

        self.producer = Producer(settings.configuration(), error_cb=report, logger=_SILENT)
        self._open = True
        start_thread(self._take_reports, name)

    def _take_reports(self) -> None:
        while self._open:
            self.producer.poll(_POLL_S)

    def close(self) -> None:
        """End the thread within a second. Messages that are not confirmed by then may never be sent."""
        self._open = False


@implementer(ICrashPublisher)
class KafkaPublisher:
    """This publisher adds a message for each id: its value is the bare id, and so is its key."""

    def __init__(self, settings: KafkaSettings, threads: ThreadPool, call_from_thread: CallFromThread) -> None:
        self.name = f"kafka {settings.topic}"
        self._topic = settings.topic
        self._timeout = settings.timeout_s / 2
        self._threads = threads
        self._call_from_thread = call_from_thread
        self._connection = Lazily(lambda: _Connection(settings, f"{self.name} reports", self._note))
        self._trouble = ""

    async def publish(self, crash: Crash) -> None:
        reported: Deferred[KafkaError | None] = Deferred()
        await self._do(partial(self._send, crash.crash_id.encode(), reported))
        error = await reported
        if error is not None:
            raise self._error(error)
        self._note("")

    async def check(self) -> None:
        topics = await self._do(lambda: self._connection().producer.list_topics(timeout=self._timeout).topics)
        if self._topic not in topics:
            raise PublishError(f"{self.name}: there is no such topic, or its user may not see it")
        self._note("")

    async def close(self) -> None:
        try:
            await self._threads(lambda: self._connection.drop(_Connection.close))
        finally:
            self._threads.close()

    def _send(self, crash_id: bytes, reported: Deferred[KafkaError | None]) -> None:
        def report(error: KafkaError | None, message: Message) -> None:
            self._call_from_thread(reported.callback, error)

        self._connection().producer.produce(self._topic, crash_id, key=crash_id, on_delivery=report)

    async def _do(self, work: Callable[[], Any]) -> Any:
        try:
            return await self._threads(work)
        except KafkaException as e:
            raise self._error(e.args[0]) from e
        except (BufferError, OSError) as e:
            raise PublishError(f"{self.name}: {e}") from e

    def _note(self, trouble: str) -> None:
        self._trouble = trouble

    def _error(self, error: KafkaError) -> PublishError:
        why = f": {self._trouble}" if self._trouble else ""
        return PublishError(f"{self.name}: {error.str()}{why}")


def _make(settings: KafkaSettings, context: PluginContext) -> KafkaPublisher:
    refuse_unusable_files(settings)
    try:
        Producer(settings.configuration(), logger=_SILENT)  # refuses options and files that can't be used
    except KafkaException as e:
        raise ConfigError(f"kafka: {e.args[0].str()}") from e
    call_from_thread = context.reactor.callFromThread
    return KafkaPublisher(settings, ThreadPool("kafka", _THREADS, call_from_thread), call_from_thread)


KAFKA = PluginType(KafkaSettings, _make)
"""The entry point C{kafka} of collectord's own publishers (in C{setup.py}) names this."""
