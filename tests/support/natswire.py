"""
A NATS server on loopback, in the reactor of the test, that speaks as much of the protocol as a publisher needs.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from attrs import define, field

from tests.support.loopback import LoopbackConnection, LoopbackServer

STREAM = "$JS.API.STREAM"


def acknowledgement(sequence: int = 1) -> bytes:
    """What a stream answers to a message that it keeps."""
    return json.dumps({"stream": "crashes", "seq": sequence}).encode()


@define(eq=False)
class FakeNats(LoopbackServer["_Client"]):
    """
    @ivar greeting: what it says first.
    @ivar answers: to messages, by their subject; None: nothing.
    @ivar pieces: the most bytes that it writes at once; 0: any number.
    @ivar hellos: what clients have said about themselves.
    @ivar messages: that came: subject, the subject for the answer, and payload.
    """

    greeting: bytes = b'INFO {"server_id": "X", "nonce": "once"}\r\n'
    answers: dict[str, bytes | None] = field(factory=dict)
    pieces: int = 0
    hellos: list[Mapping[str, Any]] = field(factory=list)
    messages: list[tuple[str, str, bytes]] = field(factory=list)
    lines: list[str] = field(factory=list)

    def connection(self) -> "_Client":
        return _Client(self)


class _Client(LoopbackConnection):
    def __init__(self, server: FakeNats) -> None:
        super().__init__(server)
        self._fake = server
        self._received = b""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.write(self._fake.greeting)

    def write(self, data: bytes) -> None:
        """Send any bytes."""
        size = self._fake.pieces or len(data) or 1
        for start in range(0, len(data), size):
            cast(Any, self.transport).write(data[start : start + size])

    def answer(self, subject: str, payload: bytes) -> None:
        """Send a message."""
        self.write(f"MSG {subject} 1 {len(payload)}\r\n".encode() + payload + b"\r\n")

    def nobody(self, subject: str) -> None:
        """Say that nobody listens."""
        headers = b"NATS/1.0 503\r\n\r\n"
        self.write(f"HMSG {subject} 1 {len(headers)} {len(headers)}\r\n".encode() + headers + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while b"\r\n" in self._received:
            line, _, rest = self._received.partition(b"\r\n")
            words = line.decode().split(" ")
            if words[0] == "PUB":
                size = int(words[3])
                if len(rest) < size + 2:
                    break
                payload, rest = rest[:size], rest[size + 2 :]
                self._received = rest
                self._published(words[1], words[2], payload)
                continue
            self._received = rest
            self._fake.lines.append(line.decode())
            if words[0] == "CONNECT":
                self._fake.hellos.append(json.loads(line[len("CONNECT ") :]))
            elif words[0] == "PING":
                self.write(b"PONG\r\n")
        self._fake.look()

    def _published(self, subject: str, reply: str, payload: bytes) -> None:
        self._fake.messages.append((subject, reply, payload))
        if (said := self._fake.answers.get(subject, acknowledgement())) is not None:
            self.answer(reply, said)
