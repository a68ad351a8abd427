"""
What systemd is told of the daemon: the notify protocol of C{Type=notify}, and the pings that its watchdog waits for.
"""

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Self

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()


@frozen
class Notifier:
    """
    Tells systemd how the daemon is. It never blocks and never raises; without a socket it does nothing.

    @ivar watchdog_s: seconds after the last L{watchdog} when systemd kills the daemon; None: it does not.
    """

    watchdog_s: float | None = None
    _address: str = ""
    _socket: socket.socket | None = None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """
        What systemd wants to hear, by C{NOTIFY_SOCKET}, C{WATCHDOG_USEC} and C{WATCHDOG_PID}, which are taken out of
        C{environment}: a child process is not the daemon.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return cls()
        is_watched = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        # One for life: with no descriptor left, a busy daemon would fall silent and be killed.
        notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        return cls(
            watchdog_s=int(microseconds) / 1e6 if is_watched else None,
            address=f"\0{address[1:]}" if address.startswith("@") else address,
            socket=notifications,
        )

    def ready(self, status: str = "") -> None:
        """It takes reports: it has started, or has reloaded."""
        self._tell("READY=1", *([_status(status)] if status else []))

    def reloading(self) -> None:
        """It reads its settings again, until it is L{ready}."""
        # The time is what Type=notify-reload knows this reload by.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """It begins to stop."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """What C{systemctl status} shows of it, in one line."""
        self._tell(_status(text))

    def watchdog(self) -> None:
        """It is alive."""
        self._tell("WATCHDOG=1")

    def _tell(self, *assignments: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(assignments).encode(errors="replace"), self._address)
        except OSError as e:
            _log.warn("systemd was not told {what}: {why}", what=assignments[0], why=e.strerror)


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"  # another line would be another assignment


class WatchdogService(Service):
    """
    Pings from the reactor at half the interval: a daemon whose reactor hangs, or that is hopeless, is started again.

    It ends with the first steps of a stop: systemd, which knows that by L{Notifier.stopping}, waits for no pings then.

    @param is_hopeless: whether only a new start can help.
    """

    def __init__(self, notifier: Notifier, is_hopeless: Callable[[], bool], clock: IReactorTime) -> None:
        self._notifier = notifier
        self._is_hopeless = is_hopeless
        self._loop = LoopingCall(self._ping)
        self._loop.clock = clock

    def _ping(self) -> None:
        if self._is_hopeless():
            _log.error("no worker takes submissions: systemd may start the daemon again")
        else:
            self._notifier.watchdog()

    def startService(self) -> None:
        """Ping at once, and then on and on."""
        super().startService()
        if self._notifier.watchdog_s is not None:
            self._loop.start(self._notifier.watchdog_s / 2)

    def stopService(self) -> None:
        """No more pings."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
