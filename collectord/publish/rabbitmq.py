"""
A publisher that sends crash ids to RabbitMQ: as persistent messages in a durable queue, each confirmed by the broker.
"""

import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import pika
from pika.adapters.twisted_connection import TwistedChannel, TwistedProtocolConnection
from pika.exceptions import AMQPError, NackError, UnroutableError
from pydantic import Field, field_validator
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS
from zope.interface import implementer

from collectord.concurrency.sharing import SingleFlight
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import PublishError, TimedOut
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.net.errors import NETWORK_ERRORS
from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.urls import without_quoting_input

T = TypeVar("T")

_PERSISTENT = pika.BasicProperties(delivery_mode=2, content_type="text/plain")

# Without a handler pika's warnings are written to standard error. They say nothing that its exceptions do not say.
logging.getLogger("pika").addHandler(logging.NullHandler())


class RabbitmqSettings(PluginSettings):
    """
    The settings of a publisher of C{type = "rabbitmq"}.

    @ivar url: C{amqp://user:password@host:port/vhost}, or C{amqps}.
    @ivar priority_queue: the queue of the crashes that L{priority_when} selects; empty: C{queue}.
    @ivar priority_when: selects crashes: annotation names, and a list of values of each.
    @ivar declare: make the queues, as durable ones, if they do not exist.
    """

    url: str = Field(default="amqp://localhost/", repr=False)
    queue: str = Field(default="socorro.standard", min_length=1)
    priority_queue: str = ""
    priority_when: Mapping[str, Sequence[str]] = {}
    declare: bool = True
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input("must be amqp://user:password@host:port/vhost, or amqps; special characters as %40"):
            if not url.startswith(("amqp://", "amqps://")):
                raise ValueError(url)
            pika.URLParameters(url)
        return url


@implementer(ICrashPublisher)
class RabbitmqPublisher:
    """
    This publisher uses one connection with one channel, which it makes when an id is to be published, and makes again
    after it was lost.
    """

    def __init__(self, settings: RabbitmqSettings, reactor: Any) -> None:
        self._settings = settings
        self._parameters = pika.URLParameters(settings.url)
        self._reactor = reactor
        self.name = f"rabbitmq {settings.queue}"
        self._connected = SingleFlight(self._connect_anew)
        self._connection: TwistedProtocolConnection | None = None
        self._channel: TwistedChannel | None = None
        self._closed = False

    async def publish(self, crash: Crash) -> None:
        channel = await self._ready()
        # Without "mandatory" the broker would confirm a message that fits no queue, and drop it.
        message = crash.crash_id.encode()
        await self._confirmed(channel.basic_publish("", self._queue_for(crash), message, _PERSISTENT, mandatory=True))

    def _queue_for(self, crash: Crash) -> str:
        settings = self._settings
        urgent = any(crash.raw_crash.get(name) in values for name, values in settings.priority_when.items())
        return settings.priority_queue if urgent and settings.priority_queue else settings.queue

    async def check(self) -> None:
        await self._ready()

    async def close(self) -> None:
        self._closed = True
        self._drop()

    async def _ready(self) -> TwistedChannel:
        if self._channel is not None and self._channel.is_open:
            return self._channel
        return await self._connected()

    async def _connect_anew(self) -> TwistedChannel:
        self._drop()
        self._channel = await self._confirmed(Deferred.fromCoroutine(self._connect()))
        return self._channel

    async def _connect(self) -> TwistedChannel:
        where = self._parameters
        endpoint: Any = HostnameEndpoint(self._reactor, where.host.encode(), where.port)
        if self._settings.url.startswith("amqps:"):
            endpoint = wrapClientTLS(optionsForClientTLS(where.host), endpoint)
        connection = self._connection = TwistedProtocolConnection(where, custom_reactor=self._reactor)
        ready = connection.ready
        assert ready is not None
        await connectProtocol(endpoint, connection)
        if self._closed:  # close() was called while this was connecting, and had no connection to close yet
            ready.addErrback(lambda _: None)  # the abort makes it fail, and nothing waits for it
            connection.transport.abortConnection()
            raise PublishError(f"{self.name}: the publisher is closed")
        await ready
        channel: TwistedChannel = await connection.channel()
        await channel.confirm_delivery()
        if self._settings.declare:
            for queue in filter(None, (self._settings.queue, self._settings.priority_queue)):
                await channel.queue_declare(queue, durable=True)
        return channel

    async def _confirmed(self, work: Awaitable[T]) -> T:
        """
        Wait for C{work}, which asks something of the broker, for a limited time.

        The limit is needed: a broker that is stopped, or out of memory, keeps the connection and never answers.

        @raise PublishError: the broker refuses it, does not answer in time, or can't be reached.
        """
        try:
            return await with_timeout(work, self._settings.timeout_s, self._reactor, self.name)
        except TimedOut as e:
            self._drop()
            raise PublishError(str(e)) from e
        except (NackError, UnroutableError) as e:
            self._drop()  # the queue fails, or is gone: a new connection declares it again
            raise PublishError(f"{self.name}: the broker can't keep the message ({type(e).__name__})") from e
        except (AMQPError, *NETWORK_ERRORS) as e:
            raise PublishError(f"{self.name}: {self._why(e)}") from e

    def _why(self, error: Exception) -> str:
        where = f"{self._parameters.host}:{self._parameters.port}"
        if self._connection is not None and self._connection.transport is not None and self._channel is None:
            hint = "check user, password and virtual host, and whether this port expects TLS"
            return f"{where} ends the connection: {hint} ({error!r})"
        return f"{where}: {error!r}"

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and connection.transport is not None:
            connection.transport.abortConnection()


def _make(settings: RabbitmqSettings, context: PluginContext) -> RabbitmqPublisher:
    return RabbitmqPublisher(settings, context.reactor)


RABBITMQ = PluginType(RabbitmqSettings, _make)
"""The entry point C{rabbitmq} of collectord's own publishers (in C{setup.py}) names this."""
