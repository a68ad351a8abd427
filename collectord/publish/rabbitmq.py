"""
A publisher that sends crash ids to RabbitMQ: as persistent messages in a durable queue, each confirmed by the broker.
"""

from collections.abc import Awaitable, Sequence
from random import random
from typing import Any, TypeVar

import pika
from pika import spec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionAborted
from zope.interface import implementer

from collectord.concurrency.sharing import SingleFlight
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import IdRefused, PublishError, TimedOut
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.net.errors import NETWORK_ERRORS
from collectord.plugins import PluginContext, PluginType
from collectord.publish.amqp import AmqpConnection, NoBroker
from collectord.publish.amqpchannel import Channel, RefusedByBroker
from collectord.publish.amqpqueues import RefusingQueues
from collectord.publish.rabbitmqsettings import TYPE, RabbitmqSettings
from collectord.publish.tls import TLS_ERRORS, client_options, tls_error_in_words

T = TypeVar("T")

_ERRORS = (RefusedByBroker, NoBroker, *TLS_ERRORS, *NETWORK_ERRORS)
_NOT_FOUND = 404
_NO_ROUTE = 312


@implementer(ICrashPublisher)
class RabbitmqPublisher:
    """
    This publisher uses one connection, which it makes when an id is to be published, and makes again after it was lost.

    @param tls: Twisted's options of a TLS connection; None: it uses no TLS.
    """

    def __init__(self, settings: RabbitmqSettings, tls: Any, reactor: Any) -> None:
        self._settings = settings
        self._parameters = pika.URLParameters(settings.url)
        self._where = f"{self._parameters.host}:{self._parameters.port}"
        self._tls = tls
        self._reactor = reactor
        self.name = f"rabbitmq {settings.queue}"
        self._prepared = SingleFlight(self._prepare_in_time)
        self._connection: AmqpConnection | None = None
        self._channel: Channel | None = None
        self._knows_queues = False
        self._refusing = RefusingQueues(self.name, reactor, random)
        self._confirmed_at = float("-inf")
        self._closed = False

    def place_of(self, crash: Crash) -> str:
        """Return where the id of a crash is published; empty: where most of them are."""
        return self._at_priority if self._settings.queue_for(crash) != self._settings.queue else ""

    async def publish(self, crash: Crash) -> None:
        await self._publish_to(self._settings.queue_for(crash), crash)

    async def publish_at(self, place: str, crash: Crash) -> None:
        """Publish where the id of this crash was published before, by what L{place_of} said then."""
        at_priority = self._settings.priority_queue and place == self._at_priority
        await self._publish_to(self._settings.priority_queue if at_priority else self._settings.queue, crash)

    @property
    def _at_priority(self) -> str:
        return f"rabbitmq {self._settings.priority_queue}"

    async def _publish_to(self, queue: str, crash: Crash) -> None:
        if why := self._refusing.why_not(queue):
            raise IdRefused(f"{self.name}: {why}")
        if self._refusing.is_missing(queue):
            self._knows_queues = False  # it may be there by now
        channel = await self._ready()
        if why := self._refusing.why_not(queue):
            raise IdRefused(f"{self.name}: {why}")
        began = self._reactor.seconds()
        try:
            await self._in_time(channel.publish(queue, crash.crash_id.encode(), crash.crash_id))
        except (TimedOut, CancelledError) as e:
            blocked = self._blocked()
            if not blocked and self._confirmed_at < began and self._channel is channel:
                self._drop("the broker confirms nothing")  # not even a message of another queue
            if isinstance(e, CancelledError):  # by who waits for it, and may have a time limit, too
                raise
            raise PublishError(blocked or str(e)) from e
        except RefusedByBroker as e:
            if channel.ended is not None:
                raise PublishError(f"{self.name}: {self._why(e)}") from e
            self._confirmed_at = self._reactor.seconds()
            self._knows_queues = False  # it may be gone; then it is declared again
            why = f"there is no queue {queue}: {e}" if e.code == _NO_ROUTE else str(e)
            self._refusing.refused(queue, why)
            raise IdRefused(f"{self.name}: the broker can't keep the message: {why}") from e
        except _ERRORS as e:
            raise PublishError(f"{self.name}: {self._why(e)}") from e
        self._confirmed_at = self._reactor.seconds()
        self._refusing.took(queue)

    @property
    def cautions(self) -> Sequence[str]:
        """Which queues do not take ids, in sentences."""
        return list(self._refusing.in_words())

    async def check(self) -> None:
        self._knows_queues = False
        await self._ready()

    async def close(self) -> None:
        self._closed = True
        self._drop("the publisher is closed")

    async def _ready(self) -> Channel:
        if blocked := self._blocked():  # it would not read what it is sent
            raise PublishError(blocked)
        if self._knows_queues and self._channel is not None and self._channel.ended is None:
            return self._channel
        return await self._prepared()

    async def _prepare_in_time(self) -> Channel:
        try:
            return await self._in_time(Deferred.fromCoroutine(self._prepare()))
        except TimedOut as e:
            self._drop("the broker does not answer")
            raise PublishError(str(e)) from e
        except _ERRORS as e:
            raise PublishError(f"{self.name}: {self._why(e)}") from e

    async def _prepare(self) -> Channel:
        if self._connection is None or self._connection.ended is not None:
            self._connection = self._channel = None
            await self._connect()
        connection = self._connection
        assert connection is not None
        if not self._knows_queues:
            await self._find_queues(connection)
            self._knows_queues = True
        if self._channel is None or self._channel.ended is not None:
            channel = await connection.channel()
            await channel.ask(spec.Confirm.Select())
            self._channel = channel
        return self._channel

    async def _connect(self) -> None:
        endpoint: Any = HostnameEndpoint(self._reactor, self._parameters.host.encode(), self._parameters.port)
        if self._tls is not None:
            endpoint = wrapClientTLS(self._tls, endpoint)
        connection = AmqpConnection(self._parameters, self._reactor)
        await connectProtocol(endpoint, connection)
        if self._closed:  # close() was called while this was connecting, and had no connection to close yet
            connection.opened.addErrback(lambda _: None)  # the abort makes it fail, and nothing waits for it
            connection.abort()
            raise PublishError(f"{self.name}: the publisher is closed")
        self._connection = connection
        await connection.opened

    async def _find_queues(self, connection: AmqpConnection) -> None:
        """
        Look for the queues. If only some of them are missing, the ids for the others can be published.

        @raise PublishError: none of them is there.
        """
        missing = {}
        for queue in self._settings.queues:
            try:
                await self._declare(connection, queue)
            except RefusedByBroker as e:
                if connection.ended is not None:
                    raise
                missing[queue] = self._why_missing(e)
        if len(missing) == len(self._settings.queues):
            raise PublishError(f"{self.name}: {self._where}: {'; '.join(missing.values())}")
        self._refusing.are_missing(missing)

    def _why_missing(self, error: RefusedByBroker) -> str:
        is_left_so = error.code == _NOT_FOUND and not self._settings.declare
        return f"{error}; with declare = false it is not made" if is_left_so else str(error)

    async def _declare(self, connection: AmqpConnection, queue: str) -> None:
        """
        Make sure that a queue is there. One that is may be of any kind, and the user need not be allowed to make it.

        @raise RefusedByBroker: it is not there.
        """
        try:
            await _ask(connection, spec.Queue.Declare(queue=queue, passive=True, arguments={}))
            return
        except RefusedByBroker as e:
            if e.code != _NOT_FOUND or not self._settings.declare:
                raise
        arguments = {**self._settings.arguments}
        if self._settings.queue_type:
            arguments[TYPE] = self._settings.queue_type
        await _ask(connection, spec.Queue.Declare(queue=queue, durable=True, arguments=arguments))

    async def _in_time(self, work: Awaitable[T]) -> T:
        """
        Wait for C{work}, which asks something of the broker, for a limited time.

        The limit is needed: a broker that is stopped, or out of memory, keeps the connection and never answers.
        """
        return await with_timeout(work, self._settings.timeout_s, self._reactor, f"{self.name}: {self._where}")

    def _blocked(self) -> str:
        connection = self._connection
        blocked = connection.blocked if connection is not None and connection.ended is None else ""
        return f"{self.name}: {self._where} takes no messages for now: {blocked}" if blocked else ""

    def _why(self, error: Exception) -> str:
        if problem := tls_error_in_words(error):
            return f"{self._where}: {problem}"
        if isinstance(error, NoBroker):
            return f"{self._where} does not speak AMQP: check the port, and whether it expects TLS ({error})"
        if self._connection is not None and not self._connection.is_let_in:
            hint = "check user, password and virtual host, and whether this port expects TLS"
            return f"{self._where} ends the connection: {_text(error)}; {hint}"
        return f"{self._where}: {_text(error)}"

    def _drop(self, why: str) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.abort(ConnectionAborted(why))


def _text(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


async def _ask(connection: AmqpConnection, method: Any) -> None:
    """Ask on a channel of its own, since the broker closes that if it refuses what it is asked for."""
    channel = await connection.channel()
    try:
        await channel.ask(method)
    finally:
        channel.close()


def _make(settings: RabbitmqSettings, context: PluginContext) -> RabbitmqPublisher:
    tls = client_options(settings, pika.URLParameters(settings.url).host) if settings.has_tls else None
    return RabbitmqPublisher(settings, tls, context.reactor)


RABBITMQ = PluginType(RabbitmqSettings, _make)
"""The entry point C{rabbitmq} of collectord's own publishers (in C{setup.py}) names this."""
