"""
The signals that the daemon heeds.
"""

import signal
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.logger import Logger

from collectord.concurrency.tasks import spawn

_log = Logger()


def act_on(number: signal.Signals, act: Callable[[], Coroutine[Any, Any, None]], reactor: Any) -> None:
    """At this signal, do C{act} in the reactor."""

    def begin() -> None:
        spawn(act(), _log, "{signal} could not be obeyed", signal=number.name)

    signal.signal(number, lambda *_: reactor.callFromThread(begin))


class StopOnce:
    """
    SIGTERM and SIGINT stop the daemon once. Twisted takes another one for an error, and tells a traceback.

    Make it when the reactor runs, for that has handlers of its own.
    """

    def __init__(self) -> None:
        self._stopping = False
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        # Who started the daemon may have one of them ignored.
        self._first = {number: handler for number, handler in handlers.items() if callable(handler)}
        for number in self._first:
            signal.signal(number, self._heed)

    def _heed(self, number: int, frame: Any) -> None:
        if self._stopping:
            _log.info("{signal}: stopping already", signal=signal.Signals(number).name)
        else:
            self._stopping = True
            self._first[signal.Signals(number)](number, frame)
