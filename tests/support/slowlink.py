"""
A link to a server that is slow, or breaks off: a relay of TCP connections, on threads.
"""

import socket
import time
from contextlib import suppress
from threading import Lock, Thread
from typing import Any

from attrs import define, field

_BLOCK = 16 * 1024


@define(eq=False)
class SlowLink:
    """
    Relays the connections to a port on this host.

    @ivar rate: bytes in a second, of all connections together, towards the server; 0: as fast as can be.
    @ivar breaks_after: all connections break off after so many more bytes; None: they don't.
    @ivar sent: the bytes that went to the server so far.
    """

    port: int
    rate: float = 0
    breaks_after: int | None = None
    sent: int = 0
    _busy_until: float = 0.0
    _lock: Any = field(factory=Lock)
    _listening: Any = None

    def __enter__(self) -> "SlowLink":
        self._listening = socket.create_server(("127.0.0.1", 0))
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * _BLOCK)
                Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            Thread(target=_copy, args=(server, client), daemon=True).start()
            with suppress(OSError):
                while data := client.recv(_BLOCK):
                    self._wait_for(len(data))
                    server.sendall(data)
            for each in (client, server):  # a close alone would not be seen while the other thread reads
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _wait_for(self, size: int) -> None:
        """Return once so many bytes have had their time on the link; raise if it breaks off."""
        with self._lock:
            if self.breaks_after is not None:
                self.breaks_after -= size
                if self.breaks_after < 0:
                    raise OSError("the link is broken")
            self.sent += size
            until = self._busy_until = max(time.monotonic(), self._busy_until) + (size / self.rate if self.rate else 0)
        time.sleep(max(0.0, until - time.monotonic()))


def _copy(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while data := server.recv(_BLOCK):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
