"""
Reads the beginnings of answers: the status and the headers.

The library of Python has its package for mails read the headers, which takes as long as all else about a small request.
"""

import http.client
from collections.abc import Mapping
from http import HTTPStatus
from socket import socket
from typing import Self

_LONGEST = 65536
_MOST = 100
_NO_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Headers:
    """The headers of an answer. Of several with the same name the first counts."""

    def __init__(self, values: Mapping[str, str] = {}) -> None:
        self._values = {name.lower(): value for name, value in values.items()}

    @classmethod
    def of(cls, lines: list[str]) -> Self:
        """Read header lines. A line that begins with a blank goes on with the one before."""
        headers = cls()
        last = ""
        for line in lines:
            if line[0] in " \t":
                if last:
                    headers._values[last] += " " + line.strip()
                continue
            name, colon, value = line.partition(":")
            name = name.strip().lower()
            last = name if colon and name not in headers._values else ""
            if last:
                headers._values[last] = value.strip()
        return headers

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a header; its name in any case."""
        return self._values.get(name.lower(), default)

    def has(self, name: str) -> bool:
        """Tell whether there is such a header; its name in any case."""
        return name.lower() in self._values

    @property
    def content_type(self) -> str:
        """The media type in small letters, without parameters; empty if there is none."""
        return self.get("content-type").partition(";")[0].strip().lower()


class HeadReader(http.client.HTTPResponse):
    """
    An answer of which L{begin} reads the head. What follows is read as the library does.

    @ivar head: the headers, once they are read.
    """

    def __init__(self, sock: socket, method: str) -> None:
        super().__init__(sock, method=method)
        self._is_bare = method == "HEAD"
        self.head = Headers()

    def begin(self) -> None:
        """
        Read the status and the headers.

        @raise http.client.HTTPException: it is no HTTP.
        """
        version, status, self.reason = _status(self._line())
        lines = self._header_lines()
        while status == HTTPStatus.CONTINUE:
            version, status, self.reason = _status(self._line())
            lines = self._header_lines()
        self.code = self.status = status
        self.version = 10 if version in ("HTTP/1.0", "HTTP/0.9") else 11
        self.head = Headers.of(lines)
        self.chunked = self.head.get("transfer-encoding").lower() == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else _number(self.head.get("content-length"))
        if status < 200 or status in _NO_BODY or self._is_bare:
            self.length = 0
        self.will_close = self._is_last() or (self.length is None and not self.chunked)

    def _line(self) -> str:
        line = self.fp.readline(_LONGEST + 1).decode("iso-8859-1")
        if len(line) > _LONGEST:
            raise http.client.LineTooLong("header line")
        if not line:
            raise http.client.RemoteDisconnected("the connection was closed without a whole head")
        return line.rstrip("\r\n")

    def _header_lines(self) -> list[str]:
        lines = []
        while line := self._line():
            lines.append(line)
            if len(lines) > _MOST:
                raise http.client.HTTPException(f"more than {_MOST} header lines")
        return lines

    def _is_last(self) -> bool:
        """Tell whether the server closes the connection after this answer."""
        connection = self.head.get("connection").lower()
        if self.version == 11:
            return "close" in connection
        return "keep-alive" not in connection and not self.head.has("keep-alive")


def _status(line: str) -> tuple[str, int, str]:
    version, _, rest = line.partition(" ")
    number, _, reason = rest.strip().partition(" ")
    if not version.startswith("HTTP/") or not (number.isascii() and number.isdecimal() and len(number) == 3):
        raise http.client.BadStatusLine(line)
    if not version.startswith(("HTTP/1.", "HTTP/0.9")):
        raise http.client.UnknownProtocol(version)
    return version, int(number), reason.strip()


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None
