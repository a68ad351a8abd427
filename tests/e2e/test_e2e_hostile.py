"""
Found by an attacker once: each of these cost too much, or told a client the wrong thing.
"""

import gzip
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.http import Part, exchange, multipart, post
from tests.support.process import memory
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.response import parse_responses
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.e2e

MIB = 2**20
TOKEN = "let me choose"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    port = free_port()
    settings = f'submitter_token = "{TOKEN}"\nmemory_bytes = {8 * MIB}'
    with Daemon(config(port, tmp_path / "root", submission=settings), port, tmp_path / "work") as daemon:
        yield daemon
        assert "Traceback" not in daemon.log()
        until(lambda: not any((tmp_path / "root").glob("staging/*/*.part")))
    assert problems(tmp_path / "root") == []


def test_one_id_chosen_by_many_at_once(daemon: Daemon, tmp_path: Path) -> None:
    chosen = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
    body = multipart([Part("uuid", chosen.encode()), Part("upload_file_minidump", b"MDMP", "x.dmp")], "b")
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Authorization": f"Bearer {TOKEN}"}
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda _: post(daemon.port, body, headers), range(60)))
    assert {crash_id_in(answer) for answer in answers} == {chosen}
    assert stored_crashes(tmp_path / "root")[chosen].dumps == {"upload_file_minidump": b"MDMP"}
    assert "failed" not in daemon.log()


def test_many_small_dumps_are_spilled_as_well(daemon: Daemon) -> None:
    """They unpack to 24 MB each, and never end."""
    parts = [Part(f"dump{n}", bytes(24_000), "x.dmp", "application/octet-stream") for n in range(990)]
    body = gzip.compress(multipart(parts, "b").removesuffix(b"--b--\r\n"))
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "gzip"}
    before = memory(daemon.pid)
    with ExitStack() as uploads:
        for _ in range(12):
            upload = uploads.enter_context(Upload(daemon.port, body + bytes(100), headers))
            upload.send_to(len(body) - 100)
        crash_id_in(post(daemon.port, make_report("meanwhile", 10).body(), HEADERS, timeout=60))
        assert memory(daemon.pid) - before < 120 * MIB


def test_annotations_of_all_uploads_are_bounded(daemon: Daemon) -> None:
    body = multipart([Part("name", bytes(1_900_000))], "b")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    before = memory(daemon.pid)
    with ExitStack() as uploads:
        begun = [uploads.enter_context(Upload(daemon.port, body, headers)) for _ in range(90)]
        for upload in begun:
            upload.send_to(len(body) - 100)
        crash_id_in(post(daemon.port, make_report("meanwhile", 10).body(), HEADERS, timeout=60))
        refused: list[Upload] = []

        def enough_are_refused() -> bool:
            for upload in begun:
                if upload not in refused:
                    with suppress(TimeoutError):
                        answer = upload.answer(0.02)
                        assert (answer.status, answer.body) == (503, b"Discarded=nowhere_to_save")
                        refused.append(upload)
            return len(refused) >= 15

        until(enough_are_refused)
        assert memory(daemon.pid) - before < 300 * MIB
    # All of it is given back.
    crash_id_in(post(daemon.port, make_report("after", 10).body(), HEADERS))


def test_a_client_that_closes_its_way_out_is_answered(daemon: Daemon) -> None:
    body = make_report("half", 1000).body()
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    request = f"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", daemon.port), 20) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    crash_id_in(parse_responses(answer)[0])


def test_the_absolute_form_of_a_url(daemon: Daemon) -> None:
    head = b"Host: h\r\nConnection: close\r\n\r\n"
    assert exchange(daemon.port, b"GET http://h/__lbheartbeat__ HTTP/1.1\r\n" + head).startswith(b"HTTP/1.1 200")
    assert exchange(daemon.port, b"GET http://h HTTP/1.1\r\n" + head).startswith(b"HTTP/1.1 404")


def test_a_boundary_of_thousands(daemon: Daemon) -> None:
    answer = post(daemon.port, b"x", {"Content-Type": f"multipart/form-data; boundary={'b' * 5000}"})
    assert (answer.status, answer.body) == (400, b"Discarded=malformed_no_boundary")
