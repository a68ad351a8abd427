"""
Many uploads at once that begin and then stall, held by one thread that costs next to nothing.
"""

import selectors
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from benchmarks.bodies import Body
from benchmarks.servers import BenchmarkError

_AT_ONCE = 40
"""
How many connect and send at the same time; the others have stalled, or wait for their turn. Few, so that not a server's
backlog (Twisted's is 50) is measured, and what the kernel does when it is full.
"""

_PATIENCE_S = 30.0


class StalledUploads:
    """
    C{count} connections, each with a declared body of which only the first C{sent} bytes were sent.

    A context manager: at its end all hang up.
    """

    def __init__(self, port: int, body: Body, *, count: int, sent: int) -> None:
        self._port = port
        self._body = body
        self._sent = sent
        self._rest = body.new()[sent:]
        self._count = count
        self._selector = selectors.DefaultSelector()
        self._stalled: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def open(self) -> None:
        """
        Open them all and send of each what is to be sent.

        @raise BenchmarkError: the server refused one, or none makes progress.
        """
        unsent: dict[socket.socket, memoryview] = {}
        while len(self._stalled) < self._count:
            while len(unsent) < _AT_ONCE and len(unsent) + len(self._stalled) < self._count:
                connection = socket.socket()
                connection.setblocking(False)
                connection.connect_ex(("127.0.0.1", self._port))
                self._selector.register(connection, selectors.EVENT_WRITE)
                unsent[connection] = memoryview(_head(self._body) + self._body.new()[: self._sent])
            ready = self._selector.select(_PATIENCE_S)
            if not ready:
                raise BenchmarkError(f"the server reads no more, with {len(self._stalled)} uploads stalled")
            for key, event in ready:
                connection = key.fileobj  # type: ignore[assignment]
                if event & selectors.EVENT_READ:
                    raise BenchmarkError(f"an upload ended before its time: {_ending(connection)!r}")
                unsent[connection] = unsent[connection][connection.send(unsent[connection]) :]
                if not unsent[connection]:
                    del unsent[connection]
                    self._selector.modify(connection, selectors.EVENT_READ)
                    self._stalled.append(connection)

    def ended(self) -> Sequence[bytes]:
        """What those were told that are stalled no more: the server answered, or hung up (nothing)."""
        return [_ending(key.fileobj) for key, _ in self._selector.select(0)]  # type: ignore[arg-type]

    def finish(self, count: int) -> int:
        """Send what is left of the first C{count} uploads; how many of them got a receipt."""
        receipts = 0
        for connection in self._stalled[:count]:
            connection.settimeout(_PATIENCE_S)
            connection.sendall(self._rest)
            receipts += b"CrashID=bp-" in connection.recv(65536)
        return receipts


def _head(body: Body) -> bytes:
    lines = ["POST /submit HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body.new())}"]
    lines += [f"{name}: {text}" for name, text in body.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _ending(connection: socket.socket) -> bytes:
    try:
        return connection.recv(200)
    except OSError as error:
        return str(error).encode()
