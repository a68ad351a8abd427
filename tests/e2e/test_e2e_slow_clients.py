"""
Clients that take their time, and a daemon that stood still: who sent in time is answered, who drips bytes makes room.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.http import post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.response import parse_responses
from tests.support.upload import Upload

pytestmark = pytest.mark.e2e


def request(body: bytes) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    return f"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


def answer(client: socket.socket) -> str:
    received = b""
    while not received.endswith(b"\n"):
        piece = client.recv(65536)
        assert piece, received
        received += piece
    return crash_id_in(parse_responses(received, ended=False)[0])


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    port = free_port()
    with Daemon(config(port, tmp_path / "root", submission="idle_timeout_s = 2"), port, tmp_path / "work") as daemon:
        yield daemon


def test_what_came_while_the_daemon_stood_still_was_in_time(daemon: Daemon) -> None:
    body = make_report("stalled", 1000).body()
    with (
        socket.create_connection(("127.0.0.1", daemon.port), 20) as idle,
        socket.create_connection(("127.0.0.1", daemon.port), 20) as uploading,
    ):
        idle.sendall(request(body))
        answer(idle)
        uploading.sendall(request(body)[:-500])
        time.sleep(0.7)
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            time.sleep(0.5)
            idle.sendall(request(body))
            uploading.sendall(body[-500:])
            time.sleep(3)
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        answer(idle)
        answer(uploading)


def test_who_drips_bytes_makes_room_when_others_wait(tmp_path: Path) -> None:
    """By default; the least rate counts at once when all connections are taken."""
    port = free_port()
    settings = "idle_timeout_s = 2\nmax_connections = 5"
    with Daemon(config(port, tmp_path / "root", submission=settings), port, tmp_path / "work") as daemon:
        body = make_report("slow", 100_000).body()
        uploads = [Upload(daemon.port, body) for _ in range(5)]
        for upload in uploads:
            upload.__enter__()
            upload.send_to(10)
        began, sent = time.monotonic(), 10
        good = socket.create_connection(("127.0.0.1", daemon.port), 30)
        good.sendall(request(make_report("good", 10).body()))
        good.settimeout(0.5)
        while time.monotonic() - began < 30:
            sent += 1
            for upload in uploads:
                with suppress(OSError):
                    upload.send_to(sent)
            with suppress(TimeoutError):
                answer(good)
                break
        else:
            pytest.fail("nobody made room")
        good.close()
        for upload in uploads:
            upload.__exit__(None, None, None)
        crash_id_in(post(daemon.port, make_report("after", 10).body(), HEADERS))
