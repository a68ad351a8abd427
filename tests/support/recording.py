"""
An HTTP server that remembers what it was sent, and answers the same to everybody.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from attrs import field, frozen


@frozen
class Request:
    """
    What was sent.

    @ivar headers: names in lower case.
    @ivar body: out of its chunks, but compressed as it came.
    @ivar at: when it had come, by the monotonic clock.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    at: float = field(factory=time.monotonic, eq=False)


@frozen
class Recorder:
    """A running one."""

    port: int
    requests: list[Request]


@contextmanager
def recording(answer: bytes, status: int = 200) -> Iterator[Recorder]:
    """On a free loopback port, until the end."""
    requests: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            chunked = headers.get("transfer-encoding") == "chunked"
            body = self._chunks() if chunked else self.rfile.read(int(headers.get("content-length", 0)))
            requests.append(Request(self.command, self.path, headers, body))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield Recorder(server.server_port, requests)
        finally:
            server.shutdown()
            thread.join()
