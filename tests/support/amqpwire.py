"""
A broker on loopback, in the reactor of the test, that speaks as much of AMQP 0-9-1 as a publisher needs.
"""

from typing import Any, cast

import pika
from attrs import define, field
from pika import frame, spec

from tests.support.loopback import LoopbackConnection, LoopbackServer

_ABLE: Any = {"capabilities": {"publisher_confirms": True, "basic.nack": True}}


@define(frozen=True)
class Message:
    """A message that came. @ivar mode: 2: the broker keeps it on disk."""

    queue: str
    body: bytes
    mode: int
    mandatory: bool


@define(eq=False)
class FakeBroker(LoopbackServer["_Client"]):
    """
    @ivar hangs_at: the method that it never answers, as C{Connection.Open}.
    @ivar ends_at: the method at which it ends the connection.
    @ivar confirms: what it says of a message: ack, nack, return (and ack), or nothing.
    @ivar queues: that were declared, and whether each is durable.
    @ivar messages: that came.
    """

    hangs_at: str = ""
    ends_at: str = ""
    confirms: str = "ack"
    queues: dict[str, bool] = field(factory=dict)
    messages: list[Message] = field(factory=list)
    methods: list[str] = field(factory=list)

    def connection(self) -> "_Client":
        return _Client(self)


class _Client(LoopbackConnection):
    """One connection, with one channel."""

    def __init__(self, broker: FakeBroker) -> None:
        super().__init__(broker)
        self._broker = broker
        self._received = b""
        self._greeted = False
        self._publish: Any = None
        self._properties: Any = None
        self._size = 0
        self._body = b""
        self._tag = 0

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if not self._greeted and len(self._received) >= 8:  # "AMQP", and a version
            self._greeted, self._received = True, self._received[8:]
            self._say(0, spec.Connection.Start(0, 9, _ABLE, "PLAIN", "en_US"))
        while self._greeted:
            size, found = frame.decode_frame(self._received)
            if found is None:
                break
            self._received = self._received[size:]
            self._got(found)
        self._broker.look()

    def _got(self, found: Any) -> None:
        if isinstance(found, frame.Method):
            self._broker.methods.append(found.method.NAME)
            if self._broker.hangs_at == found.method.NAME:
                return
            if self._broker.ends_at == found.method.NAME:
                cast(Any, self.transport).loseConnection()
                return
            self._method(found.channel_number, found.method)
        elif isinstance(found, frame.Header):
            self._properties, self._size, self._body = found.properties, found.body_size, b""
        elif isinstance(found, frame.Body):
            self._body += found.fragment
            if len(self._body) == self._size:
                self._message(found.channel_number)

    def _method(self, channel: int, method: Any) -> None:
        match method:
            case spec.Connection.StartOk():
                self._say(0, spec.Connection.Tune(10, 131072, 0))
            case spec.Connection.Open():
                self._say(0, spec.Connection.OpenOk())
            case spec.Channel.Open():
                self._say(channel, spec.Channel.OpenOk())
            case spec.Confirm.Select():
                self._say(channel, spec.Confirm.SelectOk())
            case spec.Queue.Declare():
                self._broker.queues[method.queue] = bool(method.durable)
                self._say(channel, spec.Queue.DeclareOk(method.queue, 0, 0))
            case spec.Basic.Publish():
                self._publish = method

    def _message(self, channel: int) -> None:
        asked = self._publish
        self._tag += 1
        self._broker.messages.append(
            Message(asked.routing_key, self._body, self._properties.delivery_mode, bool(asked.mandatory))
        )
        if self._broker.confirms == "return":
            self._say(channel, spec.Basic.Return(312, "NO_ROUTE", "", asked.routing_key))
            self._write(frame.Header(channel, len(self._body), pika.BasicProperties()))
            self._write(frame.Body(channel, self._body))
        if self._broker.confirms in ("ack", "return"):
            self.confirm(channel, self._tag)
        elif self._broker.confirms == "nack":
            self._say(channel, spec.Basic.Nack(self._tag))

    def confirm(self, channel: int, tag: int) -> None:
        """Say that a message is kept."""
        self._say(channel, spec.Basic.Ack(tag))

    def _say(self, channel: int, method: Any) -> None:
        self._write(frame.Method(channel, method))

    def _write(self, what: Any) -> None:
        cast(Any, self.transport).write(what.marshal())
