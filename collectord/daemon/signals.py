"""
The signals that the daemon acts on.
"""

import signal
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.logger import Logger

from collectord.concurrency.tasks import spawn

_log = Logger()


def act_on(number: signal.Signals, act: Callable[[], Coroutine[Any, Any, None]], reactor: Any) -> None:
    """
    Run C{act} on the reactor thread whenever the signal C{number} comes. If it fails, that is logged.

    To be called on the main thread.
    """

    def begin() -> None:
        spawn(act(), _log, "what {signal} asks for failed", signal=number.name)

    signal.signal(number, lambda *_: reactor.callFromThread(begin))


class StopOnce:
    """
    Lets SIGTERM and SIGINT stop the daemon once. Twisted would take a second one for an error, and log a traceback.

    Make it when the reactor runs, since it wraps the signal handlers that the reactor installs at its start.
    """

    def __init__(self) -> None:
        self._stopping = False
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        # A signal that was ignored when the daemon was started stays ignored.
        self._first = {number: handler for number, handler in handlers.items() if callable(handler)}
        for number in self._first:
            signal.signal(number, self._heed)

    def _heed(self, number: int, frame: Any) -> None:
        if self._stopping:
            _log.info("{signal}: stopping already", signal=signal.Signals(number).name)
        else:
            self._stopping = True
            self._first[signal.Signals(number)](number, frame)
