"""
HTTP by the byte: requests as a test spells them, and answers as they come.
"""

import socket
import subprocess
import time
from collections.abc import Iterable, Mapping

from attrs import field, frozen

from tests.support.response import Response, count_whole, parse_responses


@frozen
class Part:
    """A part of a multipart body; one with a file name is a dump."""

    name: str
    content: bytes = field(repr=False)
    filename: str | None = None
    content_type: str | None = None

    def encode(self) -> bytes:
        disposition = f'Content-Disposition: form-data; name="{self.name}"'
        if self.filename is not None:
            disposition += f'; filename="{self.filename}"'
        kind = "" if self.content_type is None else f"Content-Type: {self.content_type}\r\n"
        return f"{disposition}\r\n{kind}\r\n".encode() + self.content + b"\r\n"


def multipart(parts: Iterable[Part], boundary: str) -> bytes:
    """A multipart body, whole."""
    return b"".join(f"--{boundary}\r\n".encode() + part.encode() for part in parts) + f"--{boundary}--\r\n".encode()


def chunks(body: bytes, size: int) -> list[bytes]:
    """C{body} in the chunked coding, the last chunk included."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]


def exchange(port: int, *pieces: bytes, timeout: float = 10, delay: float = 0, responses: int = 1) -> bytes:
    """
    Send the pieces to a loopback port, C{delay} seconds apart, then read until so many final responses are whole, or
    to the end of the stream.

    A server that hangs up while it is sent to is no error: what it answered counts.

    @param timeout: for each piece, and for the reading, in seconds.
    @raise TimeoutError: it was not over in time.
    """
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        try:
            for at, piece in enumerate(pieces):
                if at:
                    time.sleep(delay)
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_responses(connection, time.monotonic() + timeout, responses)


def post(
    port: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    chunked: bool = False,
    path: str = "/submit",
    chunk_size: int = 65536,
    timeout: float = 10,
    delay: float = 0,
) -> Response:
    """
    POST a body. C{Host} and the framing are added to the headers, unless they say it themselves.

    @param delay: the pause before each chunk, and before a body that is not chunked, in seconds.
    @raise Incomplete: the connection ended without a whole answer.
    """
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
    given = {name.lower() for name in headers}
    added = {name: value for name, value in framing.items() if name.lower() not in given}
    if "host" not in given:
        added["Host"] = f"127.0.0.1:{port}"
    fields = "".join(f"{name}: {value}\r\n" for name, value in [*added.items(), *headers.items()])
    head = f"POST {path} HTTP/1.1\r\n{fields}\r\n".encode()
    pieces = chunks(body, chunk_size) if chunked else [body]
    return parse_responses(exchange(port, head, *pieces, timeout=timeout, delay=delay))[0]


def curl(*args: str, timeout: float = 60) -> tuple[int, bytes]:
    """
    The status and the body that a real curl gets.

    @raise RuntimeError: it got no answer; the text is its own.
    """
    command = ["curl", "-sS", "--max-time", str(timeout), "-w", "%{stderr}%{http_code}", *args]
    ran = subprocess.run(command, capture_output=True, check=False)
    status = ran.stderr[-3:]
    if status == b"000" or not status.isdigit():
        raise RuntimeError(f"curl ended with {ran.returncode}: {ran.stderr.decode(errors='replace')}")
    return int(status), ran.stdout


def read_responses(connection: socket.socket, deadline: float, responses: int) -> bytes:
    """
    What comes until so many final responses are whole, or to the end of the stream.

    @param deadline: on the monotonic clock.
    @raise TimeoutError: it was not over by then.
    """
    received = b""
    while count_whole(received) < responses:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            break
        if not piece:
            break
        received += piece
    return received
