"""
A NATS server that a test owns, from Debian. Its streams are on disk, so they outlive its process.
"""

import base64
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

from tests.support.daemon import free_port
from tests.support.server import Server


@define
class NatsServer(Server):
    """
    @ivar config: more of its settings.
    @ivar login: of the tests themselves: fields of C{CONNECT}.
    """

    port: int = field(factory=free_port)
    config: str = ""
    login: Mapping[str, str] = field(factory=dict)

    def command(self) -> Sequence[str]:
        file = self.log.with_name("nats.conf")
        file.write_text(
            f"listen: 127.0.0.1:{self.port}\njetstream {{ store_dir: {self.log.parent}/streams }}\n{self.config}\n"
        )
        return ["nats-server", "-c", str(file)]

    def answers(self) -> bool:
        try:
            return "error" not in self.api("INFO")
        except (OSError, ValueError):
            return False

    def make(self, stream: str, *subjects: str, **config: Any) -> None:
        """Make a stream."""
        made = self.api(f"STREAM.CREATE.{stream}", name=stream, subjects=list(subjects), **{"storage": "file"} | config)
        assert "error" not in made, made

    def in_stream(self, stream: str, *, after: int = 0) -> list[str]:
        """
        All messages of a stream, in their order.

        @param after: without so many, the first ones.
        """
        state = self.api(f"STREAM.INFO.{stream}")["state"]
        sequence = range(state["first_seq"] + after, state["last_seq"] + 1) if state["messages"] else ()
        found = [self.api(f"STREAM.MSG.GET.{stream}", seq=number)["message"]["data"] for number in sequence]
        return [base64.b64decode(each).decode() for each in found]

    def api(self, what: str, **request: Any) -> dict[str, Any]:
        """What JetStream answers."""
        payload = json.dumps(request).encode() if request else b""
        hello = json.dumps({"verbose": False, "headers": True, "no_responders": True, **self.login})
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection, connection.makefile("rwb") as file:
            file.readline()
            file.write(f"CONNECT {hello}\r\nSUB answers 1\r\nPUB $JS.API.{what} answers {len(payload)}\r\n".encode())
            file.write(payload + b"\r\n")
            file.flush()
            while not (line := file.readline()).startswith((b"MSG ", b"HMSG ")):
                if not line or line.startswith(b"-ERR"):
                    raise OSError(line)
                if line.startswith(b"PING"):
                    file.write(b"PONG\r\n")
                    file.flush()
            found: dict[str, Any] = json.loads(file.read(int(line.split()[-1])))
            return found
