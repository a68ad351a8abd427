"""
A connection to a broker that speaks AMQP 0-9-1, for messages that are confirmed. All of it is for the reactor thread.

Of the library pika it takes what turns methods into bytes. Its own adapter for Twisted keeps only the last message that
was returned, so with several in flight it can't say which one that was; and it forgets why a broker ends a connection.
"""

from collections.abc import Mapping
from typing import Any, cast

import pika
from attrs import define, field
from pika import frame, spec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from collectord.publish.amqpchannel import Channel, RefusedByBroker

_ABLE: Mapping[str, Any] = {
    "product": "collectord",
    "capabilities": {
        "authentication_failure_close": True,
        "basic.nack": True,
        "connection.blocked": True,
        "publisher_confirms": True,
    },
}
"""What the broker is told of this client: it may say why it refuses a password, for example."""
_FRAMES = frozenset({spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY, spec.FRAME_HEARTBEAT})
_LARGEST = 1024 * 1024
"""The most bytes of a frame that are waited for. Brokers send frames of up to 128 KiB."""


class NoBroker(Exception):
    """What is at the other end does not speak AMQP."""


@define(eq=False)
class AmqpConnection(Protocol):
    """
    A connection, from the first byte to its end.

    @ivar opened: fires once the broker has let the user in, and opened the virtual host.
    @ivar is_let_in: whether that has happened.
    @ivar ended: why the connection can't be used any more; None: it can.
    @ivar blocked: why the broker takes no messages now, in its words; empty: it takes them.
    @ivar heard_at: when the last bytes came.
    """

    _parameters: pika.connection.Parameters
    _clock: Any
    opened: Deferred[None] = field(factory=Deferred, init=False)
    is_let_in: bool = field(default=False, init=False)
    ended: Exception | None = field(default=None, init=False)
    blocked: str = field(default="", init=False)
    heard_at: float = field(default=0.0, init=False)
    _received: bytes = field(default=b"", init=False)
    _channels: dict[int, Channel] = field(factory=dict, init=False)
    _returning: tuple[int, Any] | None = field(default=None, init=False)
    _heartbeat: Any = field(default=None, init=False)

    def connectionMade(self) -> None:
        self.heard_at = self._clock.seconds()
        self.send(frame.ProtocolHeader())

    async def channel(self) -> Channel:
        """Open a channel."""
        number = max(self._channels, default=0) + 1
        channel = self._channels[number] = Channel(self, number)
        if self.ended is not None:
            channel.end(self.ended)
        await channel.ask(spec.Channel.Open())
        return channel

    def forget(self, channel: Channel) -> None:
        """Note that the number of C{channel} is free again."""
        self._channels.pop(channel.number, None)

    def send(self, *frames: Any) -> None:
        """Send frames, if there is still a connection."""
        if self.ended is None:
            cast(Any, self.transport).write(b"".join(each.marshal() for each in frames))

    def abort(self, error: Exception | None = None) -> None:
        """End the connection now. What waits for an answer fails with C{error}."""
        self._end(error or ConnectionAborted("the connection was dropped"))
        if self.transport is not None:
            cast(Any, self.transport).abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.heard_at = self._clock.seconds()
        self._received += data
        try:
            while self.ended is None and (found := self._next()) is not None:
                self._got(found)
        except Exception as e:  # pika raises what it likes at what it can't read
            self.abort(e if isinstance(e, NoBroker) else NoBroker(repr(e)))

    def _next(self) -> Any:
        start = self._received[:7]
        if len(start) == 7 and not start.startswith(b"AMQP"):
            size = int.from_bytes(start[3:7], "big")
            if start[0] not in _FRAMES or size > _LARGEST:
                raise NoBroker(f"it begins with {start!r}")
        size, found = frame.decode_frame(self._received)
        self._received = self._received[size:]
        return found

    def _got(self, found: Any) -> None:
        if isinstance(found, frame.ProtocolHeader):
            raise NoBroker(f"it speaks AMQP {found.major}.{found.minor}.{found.revision} only")
        number = getattr(found, "channel_number", 0)
        if isinstance(found, frame.Header):
            if self._returning is not None and self._returning[0] == number and number in self._channels:
                why = self._returning[1]
                message_id = found.properties.message_id or ""
                self._channels[number].returned(message_id, RefusedByBroker(why.reply_code, why.reply_text))
            self._returning = None
        elif isinstance(found, frame.Method):
            if isinstance(found.method, spec.Basic.Return):
                self._returning = number, found.method
            elif number:
                if number in self._channels:
                    self._channels[number].received(found.method)
            else:
                self._control(found.method)

    def _control(self, method: Any) -> None:
        match method:
            case spec.Connection.Start():
                mechanism, response = self._parameters.credentials.response_for(method)
                if mechanism is None:
                    raise NoBroker(f"it lets users in by {method.mechanisms!r} only")
                self._say(spec.Connection.StartOk(_ABLE, mechanism, response, "en_US"))
            case spec.Connection.Tune():
                asked = self._parameters.heartbeat
                seconds = method.heartbeat if asked is None else int(asked)
                self._say(spec.Connection.TuneOk(method.channel_max, method.frame_max, seconds))
                self._say(spec.Connection.Open(self._parameters.virtual_host))
                if seconds:
                    self._beat(seconds)
            case spec.Connection.OpenOk():
                self.is_let_in = True
                self.opened.callback(None)
            case spec.Connection.Blocked():
                self.blocked = method.reason or "without a reason"
            case spec.Connection.Unblocked():
                self.blocked = ""
            case spec.Connection.Close():
                self._say(spec.Connection.CloseOk())
                self._end(RefusedByBroker(method.reply_code, method.reply_text))
                cast(Any, self.transport).loseConnection()

    def _say(self, method: Any) -> None:
        self.send(frame.Method(0, method))

    def _beat(self, seconds: int) -> None:
        """Show that this client is alive, twice in C{seconds}, and end the connection if the broker does not."""
        if self._clock.seconds() - self.heard_at > 2 * seconds:
            self.abort(ConnectionAborted(f"nothing came from the broker for {2 * seconds} s"))
            return
        self.send(frame.Heartbeat())
        self._heartbeat = self._clock.callLater(seconds / 2, self._beat, seconds)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(cast(Exception, reason.value))

    def _end(self, error: Exception) -> None:
        if self.ended is not None:
            return
        self.ended = error
        if self._heartbeat is not None and self._heartbeat.active():
            self._heartbeat.cancel()
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            if channel.ended is None:
                channel.end(error)
        if not self.opened.called:
            self.opened.errback(error)
