"""
No store takes anything: the client waits, and is told so; or one comes back in time.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.chain import Chain, make_chain
from tests.support.disk import stored_crashes
from tests.support.http import post
from tests.support.mounts import can_mount, tmpfs
from tests.support.reports import HEADERS, crash_id_in, make_report

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(can_mount() != "", reason=can_mount()),
]

MIB = 2**20


def fill(store: Path, size: int) -> None:
    """With a ballast of C{size} bytes, or of what there is."""
    with suppress(OSError):
        (store / "ballast").write_bytes(bytes(size))


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Chain]:
    """Both stores are full, but for what a ballast holds. Dumps are spilled as they come."""
    with tmpfs(tmp_path / "one", 2 * MIB) as one, tmpfs(tmp_path / "two", 2 * MIB) as two:
        chain = make_chain(tmp_path, one / "root", two / "root", memory=0, patience=10)
        with chain.daemon:
            for store in (one, two):
                fill(store, 2 * MIB - 96 * 1024)
            yield chain


def test_503_when_the_patience_is_over_and_nothing_left(full: Chain) -> None:
    report = make_report("nowhere", 300_000, 200_000)
    began = time.monotonic()
    response = post(full.daemon.port, report.body(), HEADERS, timeout=40)
    assert 9 < time.monotonic() - began < 15
    assert (response.status, response.body) == (503, b"Discarded=nowhere_to_save")
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["content-type"].startswith("text/plain")
    full.settle({})
    assert stored_crashes(full.primary) == stored_crashes(full.secondary) == {}
    for root in (full.primary, full.secondary):
        fill(root.parent, 4 * MIB)
    status, trouble = full.heartbeat()
    assert status == 503
    assert all("No space left" in why for why in trouble.values()), trouble
    for root in (full.primary, full.secondary):
        (root.parent / "ballast").unlink()
    status, trouble = full.heartbeat()
    assert (status, set(trouble.values())) == (200, {""})
    assert "Traceback" not in full.daemon.log()


def test_a_store_that_comes_back_in_time(full: Chain) -> None:
    report = make_report("patience", 300_000, 200_000)
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(post, full.daemon.port, report.body(), HEADERS, timeout=40)
        deadline = time.monotonic() + 10
        while "is not used until" not in full.daemon.log():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (full.secondary.parent / "ballast").unlink()
        crash_id = crash_id_in(answer.result())
    assert full.where(crash_id) == ["secondary"]
    full.settle({crash_id: report.annotations["Serial"]})
