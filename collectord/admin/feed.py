"""
Live data for programs: server-sent events, made once a second for all clients that listen.
"""

from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from collectord.admin.json import as_json
from collectord.observe.status import Overview

STEP_S = 1.0
MAX_STREAMS = 64
STALLED_S = 30.0
"""A client that has read nothing for so long is disconnected."""

_HEARTBEAT = b": still here\n\n"


class TooManyStreams(Exception):
    """No other client may listen, since the most allowed do, or the daemon stops."""


@frozen
class Edition:
    """
    The events of one second, ready to be written to clients.

    @ivar whole: with the whole history, for a client that has just come.
    @ivar latest: with the latest step of the history only, for a client that has the steps before.
    """

    whole: bytes
    latest: bytes


def edition_of(overview: Overview) -> Edition:
    """Make the events that tell the state of the daemon."""
    latest = evolve(overview, history=overview.history[-1:])
    return Edition(_event(b"overview", overview), _event(b"overview", latest))


def _event(name: bytes, value: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name, as_json(value))


@implementer(IPushProducer)
@define(eq=False)
class _Stream:
    """
    The event stream to one client.

    A client that reads too slowly is sent nothing until it has caught up, and then the whole history.
    """

    request: Request
    _now: Callable[[], float]
    _knows_history: bool = field(default=False, init=False)
    _full_since: float | None = field(default=None, init=False)

    def send(self, edition: Edition | None) -> None:
        """Write the events of this second, or a comment if there are none; disconnect a client that reads nothing."""
        if self._full_since is not None:
            self._knows_history = False
            if self._now() - self._full_since > STALLED_S:
                self._abort()
        elif edition is None:
            self.request.write(_HEARTBEAT)
        else:
            knows, self._knows_history = self._knows_history, True
            self.request.write(edition.latest if knows else edition.whole)

    def _abort(self) -> None:
        transport: Any = self.request.channel.transport
        transport.abortConnection()

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._full_since = self._now()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self._full_since = None

    def stopProducing(self) -> None:
        """The client is gone. Nothing is to be done here, since Klein cancels the answer."""


class Feed:
    """
    Sends the state of the daemon to all clients that listen, once a second while there are any.

    @param overview: returns the present state of the daemon.
    """

    _log = Logger()

    def __init__(self, overview: Callable[[], Overview], clock: IReactorTime) -> None:
        self._overview = overview
        self._clock = clock
        self._streams: dict[Deferred[bytes], _Stream] = {}
        self._edition: Edition | None = None
        self._closed = False
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def follow(self, request: Request) -> Deferred[bytes]:
        """
        Write events to C{request} until the client goes away or the daemon stops.

        @return: fires when the daemon stops; cancel it when the client goes away.
        @raise TooManyStreams: it can't be served as well.
        """
        if len(self._streams) >= MAX_STREAMS or self._closed:
            raise TooManyStreams
        if not self._loop.running:
            self._loop.start(STEP_S)  # The first call, which makes an edition, is at once.
        ended: Deferred[bytes] = Deferred(self._remove)
        stream = self._streams[ended] = _Stream(request, self._clock.seconds)
        request.registerProducer(stream, True)
        stream.send(self._edition)
        return ended

    def close(self) -> None:
        """End all streams, and accept no other."""
        self._closed = True
        for ended in list(self._streams):
            self._streams[ended].request.unregisterProducer()
            self._remove(ended)
            ended.callback(b"")

    def _remove(self, ended: "Deferred[bytes]") -> None:
        del self._streams[ended]
        if not self._streams:
            self._loop.stop()

    def _tick(self) -> None:
        try:
            self._edition = edition_of(self._overview())
        except Exception:
            self._edition = None
            self._log.failure("the state of the daemon can't be told to the clients of live data")
        for stream in list(self._streams.values()):
            stream.send(self._edition)
