"""
An HTTP/1 answer, parsed strictly enough to notice what a lenient client would forgive.
"""

from collections.abc import Mapping

from attrs import field, frozen


class Incomplete(Exception):
    """These bytes are not whole responses, yet."""


@frozen
class Response:
    """
    An answer.

    @ivar headers: names in lower case; of one that came several times, the values joined by commas.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=lambda body: repr(body[:200]))


def parse_responses(received: bytes, *, ended: bool = True) -> list[Response]:
    """
    The final responses in C{received}; interim ones (C{100 Continue}) are passed over.

    @param ended: no more will come, so that a body without a length is whole.
    @raise Incomplete: there is none, or the last one is cut off.
    """
    found: list[Response] = []
    while received or not found:
        response, received = _parse_one(received, ended)
        if response.status >= 200:
            found.append(response)
    return found


def count_whole(received: bytes) -> int:
    """How many whole final responses there are at the start of what has come so far."""
    whole = 0
    while received:
        try:
            response, received = _parse_one(received, ended=False)
        except Incomplete:
            break
        whole += response.status >= 200
    return whole


def _parse_one(received: bytes, ended: bool) -> tuple[Response, bytes]:
    head, separator, rest = received.partition(b"\r\n\r\n")
    if not separator:
        raise Incomplete(repr(received[:200]))
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    status = int(status_line.split(" ", 2)[1])
    body, rest = _body(status, headers, rest, ended)
    return Response(status, headers, body), rest


def _body(status: int, headers: Mapping[str, str], rest: bytes, ended: bool) -> tuple[bytes, bytes]:
    if status < 200 or status in (204, 304):
        return b"", rest
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _unchunk(rest)
    if "content-length" in headers:
        size = int(headers["content-length"])
        if len(rest) < size:
            raise Incomplete(f"{len(rest)} of {size} bytes")
        return rest[:size], rest[size:]
    if not ended:
        raise Incomplete("the body lasts until the connection ends")
    return rest, b""


def _unchunk(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            raise Incomplete("within the chunks")
        size = int(line.split(b";")[0], 16)
        if len(rest) < size + 2:
            raise Incomplete("within a chunk")
        body += rest[:size]
        rest = rest[size + 2 :]
        if size == 0:
            return body, rest
