"""
The connection of a worker with its parent.
"""

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from collectord.daemon.workers.messages import (
    DRAIN,
    HUNG,
    KEPT,
    PRESSED,
    RELOAD,
    STOP,
    CrashEvents,
    Message,
    encode,
)
from collectord.model import CrashEvent

_SOON_S = 0.05
"""Seconds for which events are gathered, to be sent together."""


class ParentChannel(LineOnlyReceiver):
    """
    The connection with the parent: receives its commands, and sends it messages.

    @param reload: called with the new settings, as a line.
    @param drain: called when the worker has to drain.
    @param hung: called with the number of workers that hang.
    @param kept: called with a store that has got crashes, and with how many.
    @param pressed: called with whether crashes wait for a disk in those who take them.
    @param stop: called when the worker has to stop, or when the parent is gone.
    """

    delimiter = b"\n"
    MAX_LENGTH = 64 * 1024 * 1024

    def __init__(
        self,
        clock: Any,
        *,
        reload: Callable[[bytes], object],
        drain: Callable[[], object],
        hung: Callable[[int], object],
        kept: Callable[[str, int], object],
        pressed: Callable[[bool], object],
        stop: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._reload = reload
        self._drain = drain
        self._hung = hung
        self._kept = kept
        self._pressed = pressed
        self._stop = stop
        self._events: list[CrashEvent] = []
        self._flush: IDelayedCall | None = None

    def lineReceived(self, line: bytes) -> None:
        if line.startswith(RELOAD):
            self._reload(line.removeprefix(RELOAD))
        elif line == DRAIN:
            self._drain()
        elif line.startswith(HUNG):
            self._hung(int(line.removeprefix(HUNG)))
        elif line.startswith(KEPT):
            for store, count in json.loads(line.removeprefix(KEPT)).items():
                self._kept(store, count)
        elif line.startswith(PRESSED):
            self._pressed(line.removeprefix(PRESSED) == b"1")
        elif line == STOP:
            self._stop()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._stop()

    def send(self, message: Message) -> None:
        """Send C{message}, after the events that are waiting to be sent."""
        self.send_events()
        self.sendLine(encode(message))

    def on_event(self, event: CrashEvent) -> None:
        """Send C{event} a little later, together with others."""
        self._events.append(event)
        if self._flush is None:
            self._flush = self._clock.callLater(_SOON_S, self.send_events)

    def send_events(self) -> None:
        """Send the events that wait, now."""
        if self._flush is not None and self._flush.active():
            self._flush.cancel()
        self._flush = None
        if self._events:
            events, self._events = self._events, []
            self.sendLine(encode(CrashEvents(events)))
