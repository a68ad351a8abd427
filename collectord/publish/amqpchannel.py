"""
A channel of a connection that speaks AMQP 0-9-1: what is asked for and answered, and messages that are confirmed.
"""

from itertools import takewhile
from typing import Any, Protocol

import pika
from attrs import define
from pika import frame, spec
from twisted.internet.defer import Deferred, fail


class RefusedByBroker(Exception):
    """
    The broker refuses something.

    @ivar code: AMQP's number of the reason, as 404.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})" if code else text)
        self.code = code


class Frames(Protocol):
    """What a channel needs of its connection."""

    def send(self, *frames: Any) -> None:
        """Send frames, if there is still a connection."""

    def forget(self, channel: "Channel") -> None:
        """Note that the number of C{channel} is free again."""


@define
class _Sent:
    """
    A message that is not confirmed yet.

    @ivar returned: why it is in no queue; None: that is not known yet.
    """

    message_id: str
    confirmed: Deferred[None]
    returned: RefusedByBroker | None = None


class Channel:
    """
    A channel of a connection: what it is asked for is answered one after the other.

    @ivar ended: why it can't be used any more; None: it can.
    """

    def __init__(self, connection: Frames, number: int) -> None:
        self.number = number
        self.ended: Exception | None = None
        self._connection = connection
        self._answer: Deferred[Any] | None = None
        self._tag = 0
        self._unconfirmed: dict[int, _Sent] = {}

    async def ask(self, method: Any) -> Any:
        """
        Send C{method}, and return the broker's answer.

        @raise RefusedByBroker: the broker closes the channel, or the connection.
        @raise Exception: the connection is lost; the error says how.
        """
        if self.ended is not None:
            raise self.ended
        self._answer = Deferred()
        self._connection.send(frame.Method(self.number, method))
        return await self._answer

    def publish(self, queue: str, body: bytes, message_id: str) -> Deferred[None]:
        """
        Send a persistent message to C{queue}; the channel must be one that confirms.

        @return: fires once the broker keeps the message; fails with L{RefusedByBroker} if it doesn't. A cancel only
            ends the waiting.
        """
        if self.ended is not None:
            return fail(self.ended)
        self._tag += 1
        tag = self._tag
        confirmed: Deferred[None] = Deferred(lambda _: self._unconfirmed.__delitem__(tag))
        self._unconfirmed[tag] = _Sent(message_id, confirmed)
        properties = pika.BasicProperties(delivery_mode=2, content_type="text/plain", message_id=message_id)
        self._connection.send(
            # Without "mandatory" the broker would confirm a message that fits no queue, and drop it.
            frame.Method(self.number, spec.Basic.Publish(routing_key=queue, mandatory=True)),
            frame.Header(self.number, len(body), properties),
            frame.Body(self.number, body),
        )
        return confirmed

    def close(self) -> None:
        """Close the channel, without waiting for the broker."""
        if self.ended is None:
            self._connection.send(frame.Method(self.number, spec.Channel.Close(200, "done", 0, 0)))
            self.end(RefusedByBroker(0, "the channel is closed"))

    def received(self, method: Any) -> None:
        """Take a method that came for this channel."""
        match method:
            case spec.Basic.Ack():
                self._settle(method.delivery_tag, method.multiple, None)
            case spec.Basic.Nack():
                self._settle(
                    method.delivery_tag,
                    method.multiple,
                    RefusedByBroker(0, "it refuses it, as a queue does that is full (NACK)"),
                )
            case spec.Channel.Close():
                self._connection.send(frame.Method(self.number, spec.Channel.CloseOk()))
                self._connection.forget(self)
                self.end(RefusedByBroker(method.reply_code, method.reply_text))
            case spec.Channel.CloseOk():
                self._connection.forget(self)
            case _ if self._answer is not None:
                answer, self._answer = self._answer, None
                answer.callback(method)

    def returned(self, message_id: str, why: RefusedByBroker) -> None:
        """Note that the message of that id fits no queue. The broker says this before it confirms the message."""
        for sent in self._unconfirmed.values():
            if sent.message_id == message_id and sent.returned is None:
                sent.returned = why
                return

    def _settle(self, tag: int, multiple: bool, error: RefusedByBroker | None) -> None:
        # The numbers ascend. 0 stands for the last one.
        tags = takewhile(lambda each: each <= tag or not tag, self._unconfirmed) if multiple else (tag,)
        for each in list(tags):
            sent = self._unconfirmed.pop(each, None)
            if sent is None:  # nobody waits for it any more
                continue
            if problem := sent.returned or error:
                sent.confirmed.errback(problem)
            else:
                sent.confirmed.callback(None)

    def end(self, error: Exception) -> None:
        """Fail all that waits for an answer: the channel can't be used any more."""
        self.ended = error
        waiting: list[Deferred[Any]] = [sent.confirmed for sent in self._unconfirmed.values()]
        self._unconfirmed = {}
        if self._answer is not None:
            waiting.append(self._answer)
            self._answer = None
        for each in waiting:
            each.errback(error)
