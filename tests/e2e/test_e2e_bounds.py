"""
What is too big, too slow or too much: refused in time and readably, or kept in bounded memory.
"""

import socket
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import part_files, problems, stored_crashes
from tests.support.http import chunks, exchange, post, read_responses
from tests.support.process import peak_memory
from tests.support.reports import HEADERS, crash_id_in, harm, is_whole, make_report
from tests.support.response import parse_responses
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.e2e

MIB = 2**20
LIMIT = 25 * MIB


def start(workdir: Path, submission: str = "") -> Daemon:
    port = free_port()
    return Daemon(config(port, workdir / "root", submission=submission), port, workdir)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with start(tmp_path) as daemon:
        yield daemon
    assert problems(tmp_path / "root") == []
    assert "Traceback" not in daemon.log()


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_who_sends_it_all_before_he_reads_does_read_that_it_is_too_large(tmp_path: Path, chunked: bool) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {LIMIT + 1}"
    head = f"POST /submit HTTP/1.1\r\nHost: x\r\n{framing}\r\nContent-Type: {HEADERS['Content-Type']}\r\n\r\n".encode()
    with (
        start(tmp_path, f"max_read_bytes = {LIMIT}") as daemon,
        socket.create_connection(("127.0.0.1", daemon.port), 20) as connection,
    ):
        # A reset would end the sending: many a client does not look for an answer then.
        connection.sendall(head)
        for piece in chunks(bytes(LIMIT + 1), 65536) if chunked else [bytes(LIMIT + 1)]:
            connection.sendall(piece)
        [response] = parse_responses(read_responses(connection, time.monotonic() + 20, 1))
    assert (response.status, response.body) == (413, b"Discarded=too_large")
    assert response.headers["connection"] == "close"
    assert stored_crashes(daemon.workdir / "root") == {}


def test_a_report_of_just_the_limit_is_kept(daemon: Daemon) -> None:
    frame = len(make_report("limit", LIMIT).body()) - LIMIT
    report = make_report("limit", LIMIT - frame)
    assert len(report.body()) == LIMIT
    crash = crash_id_in(post(daemon.port, report.body(), HEADERS))
    assert list(harm({crash: report.annotations["Serial"]}, daemon.workdir / "root")) == []


def test_an_attachment_too_large_is_left_out_and_the_minidump_kept(daemon: Daemon) -> None:
    report = make_report("large", 30_000, LIMIT)
    crash_id = crash_id_in(post(daemon.port, report.body(), HEADERS))
    found = stored_crashes(daemon.workdir / "root")[crash_id]
    assert found.dumps == {"upload_file_minidump": report.dumps["upload_file_minidump"]}
    assert "extra_1" in str(found.raw_crash["metadata"])


def test_a_gzip_bomb_costs_little(daemon: Daemon) -> None:
    head, _, tail = make_report("bomb", 4).body().rpartition(b"MDMP")
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(head) + b"".join(packer.compress(bytes(MIB)) for _ in range(500))
    bomb += packer.compress(tail) + packer.flush()
    assert len(bomb) < MIB
    crash_id_in(post(daemon.port, make_report("warm", 1000).body(), HEADERS))
    before = peak_memory(daemon.pid)
    response = post(daemon.port, bomb, HEADERS | {"Content-Encoding": "gzip"})
    assert (response.status, response.body) == (413, b"Discarded=too_large")
    assert peak_memory(daemon.pid) - before < LIMIT + 4 * MIB
    assert len(stored_crashes(daemon.workdir / "root")) == 1


def test_many_big_dumps_at_once_are_kept_in_bounded_memory(tmp_path: Path) -> None:
    budget, clients = 4 * MIB, 12
    reports = [make_report(f"big-{n}", 20 * MIB) for n in range(clients)]
    with start(tmp_path, f"memory_bytes = {budget}") as daemon:
        before = peak_memory(daemon.pid)
        with ThreadPoolExecutor(clients) as pool:
            answers = list(
                pool.map(lambda report: post(daemon.port, report.body(), HEADERS, chunked=True, timeout=60), reports)
            )
        # Beside the budget as much again may be on its way to the disk.
        assert peak_memory(daemon.pid) - before < 2 * budget + clients * MIB
    acknowledged = {
        crash_id_in(answer): report.annotations["Serial"] for answer, report in zip(answers, reports, strict=True)
    }
    assert len(acknowledged) == clients
    assert list(harm(acknowledged, tmp_path / "root")) == []


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_client_that_sends_byte_by_byte_stops_nobody(daemon: Daemon, chunked: bool) -> None:
    slow = make_report("slow", 300)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(slow.body())}"
    head = f"POST /submit HTTP/1.1\r\nHost: x\r\n{framing}\r\nContent-Type: {HEADERS['Content-Type']}\r\n\r\n".encode()
    sent = head + (b"".join(chunks(slow.body(), 7)) if chunked else slow.body())
    pieces = [sent[at : at + 1] for at in range(len(sent))]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(exchange, daemon.port, *pieces, delay=0.001)
        fast = 0
        while not answer.done():
            crash_id_in(post(daemon.port, make_report(f"fast-{fast}", 10_000).body(), HEADERS))
            fast += 1
        crash_id = crash_id_in(parse_responses(answer.result())[0])
    assert fast > 10
    assert is_whole(stored_crashes(daemon.workdir / "root")[crash_id])


def test_a_stalled_body_times_out(tmp_path: Path) -> None:
    report = make_report("stalled", 500_000)
    with (
        start(tmp_path, "idle_timeout_s = 0.5\nmemory_bytes = 0") as daemon,
        Upload(daemon.port, report.body()) as upload,
    ):
        upload.send_to(300_000)
        until(lambda: part_files(tmp_path / "root"))
        began = time.monotonic()
        answer = upload.answer(10)
        assert (answer.status, answer.body) == (408, b"Discarded=too_slow")
        assert answer.headers["connection"] == "close"
        assert time.monotonic() - began < 5
        until(lambda: not part_files(tmp_path / "root"))
        crash_id_in(post(daemon.port, report.body(), HEADERS))
    assert problems(tmp_path / "root") == []


def test_silence_before_a_request_times_out(tmp_path: Path) -> None:
    with start(tmp_path, "idle_timeout_s = 0.3") as daemon:
        assert exchange(daemon.port, timeout=5) == b""
        assert exchange(daemon.port, b"POST /submit HTTP/1.1\r\nHos", timeout=5) == b""


@pytest.mark.parametrize("reset", [False, True], ids=["politely", "reset"])
@pytest.mark.parametrize("memory", [64 * MIB, 0], ids=["in memory", "spilled"])
def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path, memory: int, reset: bool) -> None:
    report = make_report("gone", 4 * MIB, 2 * MIB)
    root = tmp_path / "root"
    with start(tmp_path, f"memory_bytes = {memory}") as daemon:
        with Upload(daemon.port, report.body()) as upload:
            upload.send_to(len(report.body()) - 10)
            if not memory:
                until(lambda: part_files(root) > 5 * MIB)
            upload.hang_up(reset=reset)
        until(lambda: "client_gone" in daemon.log())
        until(lambda: not part_files(root))
        assert stored_crashes(root) == {}
        assert problems(root) == []
        crash_id_in(post(daemon.port, report.body(), HEADERS))
    assert "Traceback" not in daemon.log()


def test_what_was_received_whole_is_kept_although_the_client_left(daemon: Daemon) -> None:
    report = make_report("whole", 2 * MIB)
    with Upload(daemon.port, report.body()) as upload:
        upload.send_to(len(report.body()))
        upload.hang_up()
    root = daemon.workdir / "root"
    until(lambda: stored_crashes(root))
    [crash] = stored_crashes(root).values()
    assert is_whole(crash)


def test_stalled_uploads_beside_a_fast_client(daemon: Daemon) -> None:
    stalled = make_report("stalled", 200_000)
    with ExitStack() as stack:
        uploads = [stack.enter_context(Upload(daemon.port, stalled.body())) for _ in range(300)]
        for upload in uploads:
            upload.send_to(100_000)
        began = time.monotonic()
        acknowledged = {}
        for n in range(50):
            report = make_report(f"fast-{n}", 10_000)
            acknowledged[crash_id_in(post(daemon.port, report.body(), HEADERS))] = report.annotations["Serial"]
        assert time.monotonic() - began < 5
        for upload in uploads[:100]:
            acknowledged[crash_id_in(upload.finish())] = stalled.annotations["Serial"]
    assert list(harm(acknowledged, daemon.workdir / "root")) == []


def test_pipelined_reports_are_answered_in_order(daemon: Daemon) -> None:
    reports = [make_report(f"pipelined-{n}", size) for n, size in enumerate([300_000, 10, 5_000, 10])]
    head = f"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Type: {HEADERS['Content-Type']}\r\nContent-Length: "
    sent = b"".join(f"{head}{len(report.body())}\r\n\r\n".encode() + report.body() for report in reports)
    answers = parse_responses(exchange(daemon.port, sent, responses=len(reports)), ended=False)
    crashes = stored_crashes(daemon.workdir / "root")
    serials = [crashes[crash_id_in(answer)].raw_crash["Serial"] for answer in answers]
    assert serials == [report.annotations["Serial"] for report in reports]
