"""
The HTTP client of the command: one blocking connection to one server, and errors in one line.
"""

import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import urlsplit

from attrs import frozen

from collectord.cli.shared import CannotRun
from collectord.settings.urls import redacted_url

_LONGEST = 64 * 1024 * 1024
"""The most bytes of an answer that are read."""


@frozen(kw_only=True)
class Response:
    """The answer of a server to one request."""

    status: int
    reason: str
    body: bytes

    @property
    def first_line(self) -> str:
        """The first line of the body, which is all that a crash client reads."""
        return self.body.decode(errors="replace").strip().partition("\n")[0]


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Server:
    """
    A connection to the server of a URL. Use it as a context manager, which closes the connection.

    @param url: C{http://}, C{https://}, or C{unix:} and the path of a socket.
    @param timeout: seconds to wait for the server, each time.
    @param default_path: the path that is asked for if the URL has none.
    @raise CannotRun: C{url} is not a URL.
    """

    def __init__(self, url: str, timeout: float, default_path: str) -> None:
        self._url = redacted_url(url) if "://" in url else url
        if url.startswith("unix:"):
            self._connection: HTTPConnection = _UnixConnection(url.removeprefix("unix:"), timeout)
            self._target = default_path
            return
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as e:
            raise CannotRun(f"{url}: not a URL: {e}") from e
        if parts.scheme not in ("http", "https") or not host:
            raise CannotRun(f"{url}: not a URL; it should look like http://127.0.0.1:8000{default_path}")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(host, port, timeout=timeout)
        path = parts.path if parts.path not in ("", "/") else default_path
        self._target = f"{path}?{parts.query}" if parts.query else path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def ask(self, method: str, headers: Mapping[str, str], body: BinaryIO | None = None) -> Response:
        """
        Send a request and return its answer.

        @param body: the content of the request, from its present position on.
        @raise CannotRun: there is no answer.
        """
        try:
            self._send(method, headers, body)
            response = self._connection.getresponse()
            answer = Response(status=response.status, reason=response.reason, body=response.read(_LONGEST))
        except (OSError, HTTPException, ValueError) as e:
            self._connection.close()
            raise CannotRun(f"{self._url}: no answer: {_why(e)}") from e
        if response.will_close or not response.isclosed():
            self._connection.close()
        return answer

    def _send(self, method: str, headers: Mapping[str, str], body: BinaryIO | None) -> None:
        try:
            self._connection.request(method, self._target, body, dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            if body is None or self._connection.sock is None:
                raise
            # The server closed the connection in the middle of the body. It may have answered before, to refuse it.


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
