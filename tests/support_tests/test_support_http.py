"""
The raw HTTP client, against a server of the standard library's and one that answers by the byte.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from tests.support.http import Part, chunks, curl, exchange, multipart, post
from tests.support.recording import recording
from tests.support.response import Incomplete, Response, parse_responses


@contextmanager
def answering(*pieces: bytes, read: int = 1, then_close: bool = True) -> Iterator[int]:
    """The port of a server that reads up to so many bytes from one connection and answers with the pieces."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(read)
                for piece in pieces:
                    connection.sendall(piece)
                if not then_close:
                    connection.settimeout(5)
                    while connection.recv(65536):
                        pass

        thread = Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_multipart() -> None:
    parts = [Part("ProductName", b"Fenix"), Part("upload", b"\x00\r\n", "a.dmp", "application/octet-stream")]
    assert multipart(parts, "xyz") == (
        b'--xyz\r\nContent-Disposition: form-data; name="ProductName"\r\n\r\nFenix\r\n'
        b'--xyz\r\nContent-Disposition: form-data; name="upload"; filename="a.dmp"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\x00\r\n\r\n"
        b"--xyz--\r\n"
    )


def test_chunks() -> None:
    assert chunks(b"0123456789ab", 11) == [b"b\r\n0123456789a\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"]


@pytest.mark.parametrize("chunked", [False, True])
def test_post(chunked: bool) -> None:
    body = bytes(range(256)) * 1000
    with recording(b"CrashID=bp-x\n") as recorder:
        response = post(recorder.port, body, {"X-Test": "yes"}, chunked=chunked, path="/submit?a=b", delay=0.01)
    assert (response.status, response.body, response.headers["content-length"]) == (200, b"CrashID=bp-x\n", "13")
    [request] = recorder.requests
    assert (request.target, request.headers["x-test"], request.body) == ("/submit?a=b", "yes", body)
    assert ("content-length" in request.headers) is not chunked


def test_curl() -> None:
    with recording(b"no\n", 400) as recorder:
        assert curl("-F", "a=b", f"http://127.0.0.1:{recorder.port}/submit") == (400, b"no\n")
    assert b'name="a"' in recorder.requests[0].body
    with pytest.raises(RuntimeError, match="curl"):
        curl(f"http://127.0.0.1:{recorder.port}/")


def test_reads_one_whole_response_of_a_connection_that_stays() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with answering(interim, final, then_close=False) as port:
        received = exchange(port, b"GET / HTTP/1.1\r\n\r\n")
    assert received == interim + final
    assert parse_responses(received) == [Response(200, {"content-length": "2"}, b"ok")]


def test_reads_pipelined_responses() -> None:
    final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with answering(final, final, then_close=False) as port:
        received = exchange(port, b"GET / HTTP/1.1\r\n\r\n" * 2, responses=2)
    assert [response.body for response in parse_responses(received)] == [b"ok", b"ok"]


def test_reads_to_the_end_without_a_length() -> None:
    with answering(b"HTTP/1.0 200 OK\r\n\r\n", b"all", b" of it") as port:
        assert parse_responses(exchange(port, b"GET / HTTP/1.0\r\n\r\n"))[0].body == b"all of it"


def test_hears_a_server_that_does_not_listen() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with answering(refusal, then_close=False) as port:
        assert post(port, bytes(30_000_000), {}).status == 413


def test_tells_a_cut_off_answer() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok") as port, pytest.raises(Incomplete):
        post(port, b"x", {})


def test_is_impatient() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n", then_close=False) as port, pytest.raises(TimeoutError):
        exchange(port, b"GET / HTTP/1.1\r\n\r\n", timeout=0.2)
