"""
A small HTTP server of a test, in a thread: it answers as it is told, and remembers what it was asked.
"""

import socketserver
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from attrs import define, field, frozen


@frozen
class Asked:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


@define
class Script:
    """
    @ivar answers: statuses and bodies, one after the other; the last one again and again.
    @ivar early: answer, and hang up, before the body is read.
    """

    answers: list[tuple[int, bytes]]
    early: bool = False
    asked: list[Asked] = field(factory=list)
    url: str = ""

    def next_answer(self) -> tuple[int, bytes]:
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _handler(script: Script) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5
        wbufsize = -1  # head and body go together: nobody waits for a delayed acknowledgement of the head

        def _answer(self) -> None:
            length = 0 if script.early else int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.asked.append(Asked(self.command, self.path, headers, body, id(self)))
            status, said = script.next_answer()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            if script.early:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def address_string(self) -> str:
            return ""

    return Handler


@contextmanager
def serving(*answers: tuple[int, bytes], early: bool = False, unix: Path | None = None) -> Iterator[Script]:
    """@param unix: the path of its socket; else it has a loopback port."""
    script = Script(list(answers), early)
    server: socketserver.BaseServer
    if unix is None:
        tcp = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
        script.url, server = f"http://127.0.0.1:{tcp.server_port}", tcp
    else:
        script.url, server = f"unix:{unix}", _UnixServer(str(unix), _handler(script))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.002}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
