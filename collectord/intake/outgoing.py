"""
Answers on their way to a client: each is sent whole, in one go.
"""

from typing import Protocol

from twisted.web.http_headers import Headers

from collectord.net.twisted_private import send_now

BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 12\r\nConnection: close\r\n\r\n"
    b"Bad request\n"
)
"""The answer to what is no valid request."""


class Transport(Protocol):
    """What a connection needs of its transport, plain or TLS."""

    def write(self, data: bytes) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def abortConnection(self) -> None: ...


class Outgoing:
    """
    Keeps an answer until it is complete, then sends it at once, without waiting for the reactor's next turn.

    @ivar is_behind: earlier bytes may wait in the transport. Nothing is sent at once then, or it would overtake them.
    """

    is_behind = False

    def __init__(self) -> None:
        self._unsent: list[bytes] = []

    def begin(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Begin an answer with its status line and headers."""
        lines = [version, b" ", code, b" ", reason, b"\r\n"]
        for name, values in headers.getAllRawHeaders():
            for value in values:
                lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n")
        self._unsent = lines

    def add(self, data: bytes) -> None:
        """Add the next bytes of its content."""
        self._unsent.append(data)

    def send(self, transport: Transport) -> None:
        """Send the answer, which is complete. The transport sends later what the socket does not take at once."""
        answer, self._unsent = b"".join(self._unsent), []
        if not self.is_behind:
            answer = send_now(transport, answer)
        if answer:
            self.is_behind = True
            transport.write(answer)
