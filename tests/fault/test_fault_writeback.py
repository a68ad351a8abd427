"""
Real errors in writing back, of a disk that has no room for a moment: Linux tells of them once. What was acknowledged is
whole after a power cut, whoever else was told of the error.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.test_e2e_crashmover import moving
from tests.support.chain import Chain, make_chain
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import post
from tests.support.mounts import ThinExt4, can_mount, sync_filesystem, thin_ext4
from tests.support.reports import HEADERS, Report, crash_id_in, harm, make_report
from tests.support.response import Response
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(can_mount() != "", reason=can_mount()),
]

MIB = 2**20
IN_MEMORY, SPILLS = 64 * MIB, 0
WAYS = ["files", "filesystem"]
NOT_TAKEN = "its disk did not take what was written"


@pytest.fixture
def thin(tmp_path: Path) -> Iterator[ThinExt4]:
    """Its data blocks can be made to fail."""
    with thin_ext4(tmp_path / "disk", 64 * MIB) as disk:
        yield disk


def chain_on(thin: ThinExt4, sync: str, memory: int = SPILLS, workers: int = 1) -> Chain:
    """Its primary is on the thin disk, its secondary is not."""
    chain = make_chain(thin.path.parent, thin.path / "root", memory=memory, storage=f'sync = "{sync}"')
    if workers > 1:
        chain.daemon.toml = chain.daemon.toml.replace("[submission]\n", f"[submission]\nworkers = {workers}\n")
    return chain


def cut_power(thin: ThinExt4, daemon: Daemon) -> None:
    """What shows from now on is what was on the disk."""
    thin.ext4.power_cut()
    daemon.kill()
    thin.ext4.remount()
    daemon.start()  # it sweeps
    daemon.stop()


@pytest.mark.parametrize("memory", [IN_MEMORY, SPILLS], ids=["in memory", "spilled"])
@pytest.mark.parametrize("sync", WAYS)
@pytest.mark.parametrize("failures", [1, 2])
def test_tried_again_by_the_only_store(tmp_path: Path, thin: ThinExt4, sync: str, memory: int, failures: int) -> None:
    """The first sync fails, or the first two; then there is room again."""
    root, port = thin.path / "root", free_port()
    toml = config(port, root, submission=f"memory_bytes = {memory}", storage=f'sync = "{sync}"')
    with Daemon(toml, port, tmp_path / "work") as daemon, ThreadPoolExecutor() as threads:
        crash_id_in(post(port, make_report("before", 300_000).body(), HEADERS))
        thin.starve()
        report = make_report("starved", 3 * MIB, 100_000)
        answer: Future[Response] = threads.submit(post, port, report.body(), HEADERS, timeout=60)
        until(lambda: daemon.log().count(NOT_TAKEN) >= failures)
        thin.relieve()
        crash_id = crash_id_in(answer.result())
        cut_power(thin, daemon)
    assert list(harm({crash_id: report.annotations["Serial"]}, root)) == []


@pytest.mark.parametrize("memory", [IN_MEMORY, SPILLS], ids=["in memory", "spilled"])
@pytest.mark.parametrize("sync", WAYS)
def test_the_next_store_takes_it(thin: ThinExt4, sync: str, memory: int) -> None:
    chain = chain_on(thin, sync, memory)
    with chain.daemon:
        thin.starve()
        report = make_report("starved", 3 * MIB, 100_000)
        crash_id = chain.post(report)
        thin.relieve()
        assert chain.where(crash_id) == ["secondary"]
        cut_power(thin, chain.daemon)
    assert chain.harm({crash_id: report.annotations["Serial"]}) == []


def spilled(root: Path) -> list[Path]:
    return list(root.glob("staging/*/*.part"))


def upload_while_starved(thin: ThinExt4, chain: Chain, report: Report, *, dropped: bool) -> tuple[Response, bool]:
    """
    An upload is spilled, and its data can't be written back; another is told of that first.

    @param dropped: memory was short, too: what was spilled is nowhere any more.

    @return: the answer, and whether it came so; else a check of the store was told first, and the other one was taken.
    """
    body = report.body()

    def came(*roots: Path) -> bool:
        return sum(path.stat().st_size for root in roots for path in spilled(root)) > len(body) - 200_000

    with Upload(chain.daemon.port, body) as upload:
        thin.starve()
        upload.send_to(len(body) - 1000)
        until(lambda: came(chain.primary) or came(chain.secondary))
        came_so = came(chain.primary) and "error syncing" in sync_filesystem(thin.path)
        if dropped:
            for path in spilled(chain.primary):
                thin.forget_cached(path)
        thin.relieve()
        return upload.finish(), came_so


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("dropped", [False, True], ids=["in the cache", "dropped"])
@pytest.mark.parametrize("sync", WAYS)
def test_another_was_told_first(thin: ThinExt4, sync: str, dropped: bool, workers: int) -> None:
    """What was spilled is kept by the other store if it can be had back as it was received; else the client is told."""
    chain = chain_on(thin, sync, workers=workers)
    acknowledged: dict[str, str] = {}
    came_so = False
    with chain.daemon:
        while not came_so:
            until(lambda: chain.heartbeat()[0] == 200, 30)
            report = make_report(f"seen-{len(acknowledged)}", 3 * MIB)
            answer, came_so = upload_while_starved(thin, chain, report, dropped=dropped)
            if answer.status == 200:
                acknowledged[crash_id_in(answer)] = report.annotations["Serial"]
        assert answer.status in ([503] if dropped else [200, 503])  # the kernel may have dropped it by itself
        cut_power(thin, chain.daemon)
    assert chain.harm(acknowledged) == []


@pytest.mark.parametrize("sync", WAYS)
def test_a_destination_that_could_not_write(tmp_path: Path, thin: ThinExt4, sync: str) -> None:
    """It is tried again, and the crash leaves its store once it is on the disk there."""
    source, destination, port = tmp_path / "source", thin.path / "there", free_port()
    toml = config(port, source, moves=True) + moving(destination, destination=f'sync = "{sync}"')
    report = make_report("moved", 3 * MIB, 100_000)
    with Daemon(toml, port, tmp_path / "work") as daemon:
        until(lambda: f"{destination} is ready" in daemon.log())
        thin.starve()
        crash_id = crash_id_in(post(port, report.body(), HEADERS))
        until(lambda: NOT_TAKEN in daemon.log())
        assert crash_id in stored_crashes(source)
        thin.relieve()
        until(lambda: crash_id not in stored_crashes(source), 30)
        cut_power(thin, daemon)
    assert list(harm({crash_id: report.annotations["Serial"]}, destination)) == []
