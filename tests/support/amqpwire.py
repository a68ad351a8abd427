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
    @ivar nacks: the queues whose messages it refuses.
    @ivar greeting: what it says first, if it is no broker at all.
    @ivar refuses: the number and the text with which it refuses a method, by the method's name. A method of the
        connection ends that, another one its channel.
    @ivar heartbeat: seconds between signs of life, which it never gives; 0: it asks for none.
    @ivar queues: that were declared, and whether each is durable; those that are in it at first are there already.
    @ivar arguments: with which queues were made.
    @ivar messages: that came.
    """

    hangs_at: str = ""
    ends_at: str = ""
    confirms: str = "ack"
    nacks: set[str] = field(factory=set)
    greeting: bytes = b""
    refuses: dict[str, tuple[int, str]] = field(factory=dict)
    heartbeat: int = 0
    queues: dict[str, bool] = field(factory=dict)
    arguments: dict[str, Any] = field(factory=dict)
    messages: list[Message] = field(factory=list)
    methods: list[str] = field(factory=list)

    def connection(self) -> "_Client":
        return _Client(self)


class _Client(LoopbackConnection):
    """One connection, of whose channels one is published on."""

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
        self._published_on = 0

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if not self._greeted and len(self._received) >= 8:  # "AMQP", and a version
            if self._broker.greeting:
                self.write(self._broker.greeting)
                return
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
            name, channel = found.method.NAME, found.channel_number
            if name in self._broker.refuses and not getattr(found.method, "passive", False):
                closing = spec.Channel.Close if channel else spec.Connection.Close
                self._say(channel, closing(*self._broker.refuses[name], 0, 0))
            else:
                self._method(channel, found.method)
        elif isinstance(found, frame.Header):
            self._properties, self._size, self._body = found.properties, found.body_size, b""
        elif isinstance(found, frame.Body):
            self._body += found.fragment
            if len(self._body) == self._size:
                self._message(found.channel_number)

    def _method(self, channel: int, method: Any) -> None:
        match method:
            case spec.Connection.StartOk():
                self._say(0, spec.Connection.Tune(10, 131072, self._broker.heartbeat))
            case spec.Connection.Open():
                self._say(0, spec.Connection.OpenOk())
            case spec.Channel.Open():
                self._say(channel, spec.Channel.OpenOk())
            case spec.Confirm.Select():
                self._say(channel, spec.Confirm.SelectOk())
            case spec.Channel.Close():
                self._say(channel, spec.Channel.CloseOk())
            case spec.Connection.CloseOk():
                cast(Any, self.transport).loseConnection()
            case spec.Queue.Declare(passive=True) if method.queue not in self._broker.queues:
                self._say(channel, spec.Channel.Close(404, f"NOT_FOUND - no queue '{method.queue}'", 50, 10))
            case spec.Queue.Declare(passive=True):
                self._say(channel, spec.Queue.DeclareOk(method.queue, 0, 0))
            case spec.Queue.Declare():
                self._broker.arguments[method.queue] = method.arguments
                self._broker.queues[method.queue] = bool(method.durable)
                self._say(channel, spec.Queue.DeclareOk(method.queue, 0, 0))
            case spec.Basic.Publish():
                self._publish = method

    def _message(self, channel: int) -> None:
        asked = self._publish
        self._tag += 1
        self._published_on = channel
        self._broker.messages.append(
            Message(asked.routing_key, self._body, self._properties.delivery_mode, bool(asked.mandatory))
        )
        if asked.routing_key in self._broker.nacks:
            self.refuse(self._tag)
            return
        if self._broker.confirms == "return":
            self.give_back(self._properties.message_id, asked.routing_key)
        if self._broker.confirms in ("ack", "return"):
            self.confirm(self._tag)
        elif self._broker.confirms == "nack":
            self.refuse(self._tag)

    def confirm(self, tag: int, *, multiple: bool = False) -> None:
        """Say that a message is kept, and with C{multiple} all those before it."""
        self._say(self._published_on, spec.Basic.Ack(tag, multiple))

    def refuse(self, tag: int, *, multiple: bool = False) -> None:
        """Say that a message is not kept."""
        self._say(self._published_on, spec.Basic.Nack(tag, multiple))

    def give_back(self, message_id: str, queue: str) -> None:
        """Return a message that fits no queue."""
        channel = self._published_on
        self._say(channel, spec.Basic.Return(312, "NO_ROUTE", "", queue))
        self._write(frame.Header(channel, len(message_id), pika.BasicProperties(message_id=message_id)))
        self._write(frame.Body(channel, message_id.encode()))

    def say(self, method: Any) -> None:
        """Send a method that is about the connection."""
        self._say(0, method)

    def write(self, data: bytes) -> None:
        """Send any bytes."""
        cast(Any, self.transport).write(data)

    def _say(self, channel: int, method: Any) -> None:
        self._write(frame.Method(channel, method))

    def _write(self, what: Any) -> None:
        cast(Any, self.transport).write(what.marshal())
