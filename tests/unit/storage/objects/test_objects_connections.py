"""
A request gets the server's answer, or an error that says in words what happened.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Event, Thread
from time import sleep
from typing import Any

import pytest

from collectord.storage.objects import connections as connections_module
from collectord.storage.objects.connections import Answer, Connections, NoAnswer
from tests.support.cases import for_each

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SOON = 5.0


@contextmanager
def server(*serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """
    The URL of a server on a thread.

    @param serve: what it does with each connection, one after the other; it is closed then.
    """
    with socket.create_server(("127.0.0.1", 0)) as port:

        def run() -> None:
            for each in serve:
                connection, _ = port.accept()
                with connection:
                    each(connection)

        thread = Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{port.getsockname()[1]}"
        thread.join(SOON)


def heard(connection: socket.socket, end: bytes = b"\r\n\r\n") -> bytes:
    """Read a request up to the C{end}."""
    data = b""
    while not data.endswith(end) and (more := connection.recv(65536)):
        data += more
    return data


def answering(answer: bytes, *, end: bytes = b"\r\n\r\n") -> Callable[[socket.socket], object]:
    def serve(connection: socket.socket) -> None:
        heard(connection, end)
        connection.sendall(answer)

    return serve


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def connections(url: str, seconds: float = SOON) -> Connections:
    return Connections(url, None, connect_timeout=seconds, read_timeout=seconds)


def get(url: str, seconds: float = SOON) -> Answer:
    to = connections(url, seconds)
    try:
        return to.exchange("GET", "/x", {"host": to.host}, b"")
    finally:
        to.close()


def error_of(url: str, seconds: float = SOON) -> str:
    with pytest.raises(NoAnswer) as told:
        get(url, seconds)
    return str(told.value)


def test_an_answer() -> None:
    with server(answering(b"HTTP/1.1 403 Forbidden\r\nETag: x\r\nContent-Length: 3\r\n\r\nno!")) as url:
        answer = get(url)
    assert (answer.status, answer.reason, answer.body) == (403, "Forbidden", b"no!")
    assert answer.headers.get("etag") == "x"


@for_each(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
        b"HTTP/1.0 200 OK\r\n\r\nyes",
    ],
    ids=["chunked", "continue", "until the end"],
)
def test_a_body_in_any_form(answer: bytes) -> None:
    with server(answering(answer)) as url:
        assert get(url).body == b"yes"


def test_of_a_long_body_the_beginning_is_read() -> None:
    with server(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)) as url:
        assert get(url).body == b"x" * 65536


def test_a_connection_is_used_again() -> None:
    def serve(connection: socket.socket) -> None:
        for _ in range(2):
            heard(connection)
            connection.sendall(EMPTY)

    with server(serve) as url:
        to = connections(url)
        for _ in range(2):
            assert to.exchange("GET", "/x", {"host": to.host}, b"").status == 200
        to.close()


@for_each(
    "answer",
    [EMPTY, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"],
    ids=["closed", "to be closed"],
)
def test_a_connection_that_ends_is_replaced(answer: bytes) -> None:
    gone = Event()

    def serve(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)
        gone.set()

    with server(serve, serve) as url:
        to = connections(url)
        for _ in range(2):
            assert to.exchange("GET", "/x", {"host": to.host}, b"").status == 200
            assert gone.wait(SOON)
        to.close()


@for_each("made", [BytesIO, bytes], ids=["file", "bytes"])
@for_each("size", [3, 1_500_000])
def test_a_body_is_sent(size: int, made: Callable[[bytes], Any]) -> None:
    content, came = b"y" * (size - 1) + b"!", list[bytes]()

    def serve(connection: socket.socket) -> None:
        came.append(heard(connection, b"y!"))
        connection.sendall(EMPTY)

    with server(serve) as url:
        to = connections(url)
        to.exchange("PUT", "/x", {"host": to.host, "content-length": str(size)}, made(content))
        to.close()
    assert came == [f"PUT /x HTTP/1.1\r\nhost: {to.host}\r\ncontent-length: {size}\r\n\r\n".encode() + content]


def test_an_answer_before_all_was_sent_counts() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_RD)

    with server(refuse) as url:
        to = connections(url)
        answer = to.exchange("PUT", "/x", {"host": to.host, "content-length": "9000000"}, BytesIO(b"x" * 9_000_000))
        to.close()
    assert answer.status == 413


@for_each(
    ("answer", "told"),
    [
        (b"", "hung up before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "hung up before its answer was complete"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "is no HTTP (BadStatusLine)"),
    ],
    ids=["nothing", "half of the body", "SSH"],
)
def test_no_whole_answer(answer: bytes, told: str) -> None:
    with server(answering(answer)) as url:
        assert told in error_of(url)


def test_a_server_that_is_silent() -> None:
    with server(lambda connection: heard(connection, b"never")) as url:
        assert error_of(url, 0.05) == f"{url} did not answer within 0.05 s"


@pytest.mark.slow
def test_a_link_may_be_slow_as_long_as_something_gets_through() -> None:
    """The time limit is for some of a body, not for all of it."""
    size = 10 * connections_module._UNSENT

    def read_slowly(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        left = size
        while left > 0:
            sleep(0.02)
            left -= len(connection.recv(65536))
        connection.sendall(EMPTY)

    with server(read_slowly) as url:
        to = connections(url, 0.25)
        assert to.exchange("PUT", "/x", {"host": to.host, "content-length": str(size)}, b"x" * size).status == 200
        to.close()


def test_no_server() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert error_of(url) == f"no connection to {url} (Connection refused)"


def test_a_server_without_tls() -> None:
    with server(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", end=b"")) as url:
        https = url.replace("http:", "https:")
        error = error_of(https)
        assert error.startswith(f"no connection to {https} (TLS failed: ")
        assert error.endswith("; this port speaks no TLS)")


def test_a_line_end_in_a_header_is_not_sent() -> None:
    with server(lambda connection: connection.recv(1)) as url:
        to = connections(url)
        with pytest.raises(ValueError, match="a line end in it"):
            to.exchange("GET", "/x", {"host": "x\r\nevil: 1"}, b"")
        to.close()


def test_a_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    came = list[bytes]()

    def serve(connection: socket.socket) -> None:
        came.append(heard(connection))
        connection.sendall(EMPTY)

    with server(serve) as proxy:
        monkeypatch.setenv("http_proxy", proxy.replace("//", "//user:p%40ss@"))
        assert get("http://s3.example").status == 200
    assert came[0].startswith(b"GET http://s3.example/x HTTP/1.1\r\nhost: s3.example\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in came[0]


def test_a_proxy_is_asked_for_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    came = list[bytes]()

    def serve(connection: socket.socket) -> None:
        came.append(heard(connection))
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    with server(serve) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        error = error_of("https://s3.example")
    assert came[0].startswith(b"CONNECT s3.example:443 HTTP/1.")
    assert error.startswith(f"no connection to https://s3.example by the proxy {proxy.removeprefix('http://')} (")
    assert "403 Forbidden" in error


def test_a_host_that_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with server(answering(EMPTY)) as url:
        assert get(url).status == 200


def test_closed_it_keeps_no_connection() -> None:
    ended = list[bytes]()

    def serve(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(EMPTY)
        ended.append(connection.recv(1))

    with server(serve) as url:
        get(url)
    assert ended == [b""]
