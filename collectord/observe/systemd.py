"""
Tells systemd how the daemon is: the notify protocol of C{Type=notify}, and the pings that its watchdog waits for.
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

    @ivar watchdog_s: systemd kills the daemon if it gets no L{watchdog} ping for so many seconds; None: it never does.
    """

    watchdog_s: float | None = None
    _address: str = ""
    _socket: socket.socket | None = None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """
        Make the notifier that C{NOTIFY_SOCKET}, C{WATCHDOG_USEC} and C{WATCHDOG_PID} ask for.

        They are taken out of C{environment}, since a child process must not notify systemd as if it were the daemon.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return cls()
        is_watched = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        # The socket stays open. A daemon that has no descriptor left could not open one to ping, and would be killed.
        notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        return cls(
            watchdog_s=int(microseconds) / 1e6 if is_watched else None,
            address=f"\0{address[1:]}" if address.startswith("@") else address,
            socket=notifications,
        )

    def ready(self, status: str = "") -> None:
        """Say that the daemon takes reports: it has started, or has reloaded."""
        self._notify("READY=1", *([_status(status)] if status else []))

    def reloading(self) -> None:
        """Say that the daemon reads its settings again, until it is L{ready}."""
        # With Type=notify-reload systemd tells one reload from another by this time.
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the daemon begins to stop."""
        self._notify("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that C{systemctl status} shows."""
        self._notify(_status(text))

    def watchdog(self) -> None:
        """Say that the daemon is alive."""
        self._notify("WATCHDOG=1")

    def _notify(self, *assignments: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(assignments).encode(errors="replace"), self._address)
        except OSError as e:
            _log.warn("systemd could not be notified of {what}: {why}", what=assignments[0], why=e.strerror)


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"  # systemd would take a second line for another assignment.


class WatchdogService(Service):
    """
    Pings systemd's watchdog from the reactor, twice in each interval of the watchdog.

    If the reactor hangs, or nothing but a new start can help the daemon, the pings end and systemd starts it again.
    This service is among the first to stop. systemd is told by L{Notifier.stopping}, and waits for no more pings.

    @param is_hopeless: returns whether only a new start of the daemon can help.
    """

    def __init__(self, notifier: Notifier, is_hopeless: Callable[[], bool], clock: IReactorTime) -> None:
        self._notifier = notifier
        self._is_hopeless = is_hopeless
        self._loop = LoopingCall(self._ping)
        self._loop.clock = clock

    def _ping(self) -> None:
        if self._is_hopeless():
            _log.error("no worker takes submissions, so the watchdog is not pinged, and systemd may restart the daemon")
        else:
            self._notifier.watchdog()

    def startService(self) -> None:
        """Ping at once, and then regularly, if systemd watches the daemon."""
        super().startService()
        if self._notifier.watchdog_s is not None:
            self._loop.start(self._notifier.watchdog_s / 2)

    def stopService(self) -> None:
        """Stop pinging."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
