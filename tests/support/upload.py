"""
An upload that its test holds in the middle.
"""

import socket
import struct
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.support.http import read_responses
from tests.support.reports import HEADERS
from tests.support.response import Response, parse_responses


class Upload:
    """One POST with a declared length, sent as far as its test says; a context manager that hangs up at the end."""

    def __init__(self, port: int, body: bytes, headers: Mapping[str, str] = HEADERS) -> None:
        self._body = body
        self._sent = 0
        self._connection = socket.create_connection(("127.0.0.1", port), 30)
        fields = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body)), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._connection.sendall(f"POST /submit HTTP/1.1\r\n{lines}\r\n".encode())

    def send_to(self, end: int) -> None:
        """Send what was not sent yet of the first C{end} bytes of the body."""
        self._connection.sendall(self._body[self._sent : end])
        self._sent = end

    def finish(self, timeout: float = 30) -> Response:
        """Send the rest, and read the answer."""
        self.send_to(len(self._body))
        return self.answer(timeout)

    def answer(self, timeout: float = 30) -> Response:
        """
        Read the answer.

        @param timeout: in seconds.
        @raise TimeoutError: there is none in time.
        """
        return parse_responses(read_responses(self._connection, time.monotonic() + timeout, 1))[0]

    def hang_up(self, *, reset: bool = False) -> None:
        """Go away, politely or not."""
        if reset:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
