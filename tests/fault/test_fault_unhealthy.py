"""
A primary store that hangs or errs, as an unhealthy NFS server does: the next one takes every crash, whole, also in the
middle of an upload.
"""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.chain import Chain, make_chain
from tests.support.disk import stored_crashes
from tests.support.fusefs import FuseMount, can_mount_fuse, mounted_below
from tests.support.http import curl, post
from tests.support.load import SMALL, SPILLED, load
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(can_mount_fuse() != "", reason=can_mount_fuse()),
]

MIB = 2**20
TIMEOUT = 0.7
IN_MEMORY, SPILLS = 64 * MIB, 0


@pytest.fixture
def unhealthy(tmp_path: Path) -> Iterator[FuseMount]:
    """Healthy, at first."""
    with mounted_below(tmp_path) as mount:
        yield mount


def chain_on(unhealthy: FuseMount, *, memory: int = IN_MEMORY, timeout: float = TIMEOUT) -> Chain:
    """Its primary is on the unhealthy file system, its secondary is not."""
    return make_chain(unhealthy.path.parent, unhealthy.path / "root", memory=memory, timeout=timeout)


def root_of(unhealthy: FuseMount) -> Path:
    """The primary's root, out of the faults' reach."""
    return unhealthy.source / "root"


def spilled(unhealthy: FuseMount) -> int:
    return sum(path.stat().st_size for path in root_of(unhealthy).glob("staging/*/*.part"))


ERRORS = [
    "eio fsync",
    "eio fsyncdir",
    "enospc create",
    "eio rename",
    "edquot write",
    "estale all",
    "eio symlink",
]
HANGS = ["hang write", "hang fsync", "hang fsyncdir", "hang create", "hang rename", "hang statfs", "hang all"]


@pytest.mark.parametrize("fault", [*ERRORS, *HANGS])
def test_falls_back(unhealthy: FuseMount, fault: str) -> None:
    chain = chain_on(unhealthy)
    with chain.daemon:
        before = make_report("before", 100)
        acknowledged = {chain.post(before): before.annotations["Serial"]}
        unhealthy.fault(fault)
        for n in range(5):
            report = make_report(f"unhealthy-{n}", 300_000, 10)
            crash_id = chain.post(report)
            assert crash_id in stored_crashes(chain.secondary)
            acknowledged[crash_id] = report.annotations["Serial"]
        unhealthy.heal()
        chain.until_primary_takes()
        # What hung has ended late, and is undone: one thread commits one group after the other.
        chain.settle(acknowledged, root_of(unhealthy))
        until(lambda: acknowledged.keys() & stored_crashes(root_of(unhealthy)).keys() == set(list(acknowledged)[:1]))
    assert "Traceback" not in chain.daemon.log()
    assert chain.daemon.log().count("is not used until it works again") == 1


@pytest.mark.parametrize("fault", ["hang write", "hang fsync", "hang all"])
def test_a_hung_primary_costs_later_clients_nothing(unhealthy: FuseMount, fault: str) -> None:
    chain = chain_on(unhealthy, timeout=4)
    with chain.daemon:
        crash_id_of_before = chain.post(make_report("before", 10))
        unhealthy.fault(fault)
        began = time.monotonic()
        acknowledged = {chain.post(make_report("first", 10)): "first 10"}
        assert time.monotonic() - began >= 4
        began = time.monotonic()
        for n in range(30):
            acknowledged[chain.post(make_report(f"later-{n}", 10))] = f"later-{n} 10"
        assert time.monotonic() - began < 3.5
        unhealthy.heal()
        acknowledged[crash_id_of_before] = "before 10"
        chain.settle(acknowledged, root_of(unhealthy))


@pytest.mark.parametrize(
    ("fault", "memory"),
    [
        ("enospc write", IN_MEMORY),
        ("enospc write", SPILLS),
        ("eio write", SPILLS),
        ("eio create", IN_MEMORY),
        ("eio fsync", SPILLS),
        ("eio link", SPILLS),
        ("hang write", IN_MEMORY),
        ("hang fsync", IN_MEMORY),
    ],
)
def test_falls_back_in_the_middle_of_an_upload(unhealthy: FuseMount, fault: str, memory: int) -> None:
    report = make_report("middle", 10 * MIB, 50_000)
    chain = chain_on(unhealthy, memory=memory)
    with chain.daemon, Upload(chain.daemon.port, report.body()) as upload:
        upload.send_to(5 * MIB)
        if memory == SPILLS:
            until(lambda: spilled(unhealthy) > 4 * MIB)
        unhealthy.fault(fault)
        crash_id = crash_id_in(upload.finish())
        assert chain.where(crash_id) == ["secondary"]
        unhealthy.heal()
        chain.settle({crash_id: report.annotations["Serial"]}, root_of(unhealthy))
        chain.until_primary_takes()
    assert "Traceback" not in chain.daemon.log()


@pytest.mark.parametrize("fault", ["enospc write after 3000000 bytes", "eio write after 3000000 bytes"])
def test_falls_back_in_the_middle_of_a_write(unhealthy: FuseMount, fault: str) -> None:
    report = make_report("within", 10 * MIB, 50_000)
    chain = chain_on(unhealthy, memory=SPILLS)
    with chain.daemon:
        unhealthy.fault(fault)
        crash_id = chain.post(report)
        unhealthy.heal()
        chain.settle({crash_id: report.annotations["Serial"]}, root_of(unhealthy))
        assert chain.where(crash_id) == ["secondary"]


@pytest.mark.parametrize("fault", ["hang all", "hang write", "hang fsync"])
def test_hangs_when_half_of_an_upload_is_spilled(unhealthy: FuseMount, fault: str) -> None:
    """The half that lies there can't be read back: the report is refused, or whole."""
    report = make_report("lost", 10 * MIB, 50_000)
    chain = chain_on(unhealthy, memory=SPILLS)
    with chain.daemon, Upload(chain.daemon.port, report.body()) as upload:
        upload.send_to(5 * MIB)
        until(lambda: spilled(unhealthy) > 4 * MIB)
        unhealthy.fault(fault)
        answer = upload.finish()
        acknowledged = {crash_id_in(answer): report.annotations["Serial"]} if answer.status == 200 else {}
        assert answer.status in (200, 503)
        assert answer.status == 200 or "retry-after" in answer.headers
        # Others are served by the secondary, big ones too.
        acknowledged[chain.post(report)] = report.annotations["Serial"]
        unhealthy.heal()
        chain.settle(acknowledged, root_of(unhealthy))
        assert len(stored_crashes(chain.secondary)) == len(acknowledged)
        chain.until_primary_takes()
    assert "Traceback" not in chain.daemon.log()


@pytest.mark.parametrize(
    ("memory", "faults"),
    [
        (IN_MEMORY, ["hang fsync", "eio fsyncdir", "hang write", "enospc write"]),
        (SPILLS, ["eio fsync", "eio fsyncdir", "eio write", "enospc write"]),
        (SPILLS, ["hang fsync", "hang write", "hang all"]),
    ],
    ids=["in memory", "spilled", "spilled and hung"],
)
def test_comes_and_goes_under_load(unhealthy: FuseMount, memory: int, faults: list[str]) -> None:
    chain = chain_on(unhealthy, memory=memory)
    with chain.daemon:
        with load(chain.daemon.port, shapes=[SMALL, SPILLED]) as clients:
            for fault in faults:
                clients.wait_for_more(15)
                unhealthy.fault(fault)
                clients.wait_for_more(15)
                unhealthy.heal()
        # What was spilled to where everything hangs can't be read back.
        may_refuse = memory == SPILLS and "hang all" in faults
        assert all(may_refuse and answer.status == 503 for answer in clients.refused), clients.refused
        chain.settle(clients.acknowledged, root_of(unhealthy))
    assert "Traceback" not in chain.daemon.log()


def test_a_client_that_leaves_while_its_crash_is_being_saved(unhealthy: FuseMount) -> None:
    """It was received whole: it is kept."""
    report = make_report("left", 100_000)
    chain = chain_on(unhealthy, timeout=20)
    with chain.daemon:
        unhealthy.fault("hang fsync")
        with Upload(chain.daemon.port, report.body()) as upload:
            upload.send_to(len(report.body()))
            until(lambda: any(root_of(unhealthy).glob("staging/*/*.json")))
            upload.hang_up(reset=True)
        curl(chain.daemon.url("/__lbheartbeat__"))  # once it answers, it knows that the client is gone
        unhealthy.heal()
        until(lambda: stored_crashes(root_of(unhealthy)))
        [crash_id] = stored_crashes(root_of(unhealthy))
        chain.settle({crash_id: report.annotations["Serial"]}, root_of(unhealthy))
    assert "Traceback" not in chain.daemon.log()


def test_a_server_that_dies(unhealthy: FuseMount) -> None:
    """ENOTCONN, or whatever the kernel makes of it."""
    chain = chain_on(unhealthy)
    with chain.daemon, load(chain.daemon.port, shapes=[SMALL]) as clients:
        clients.wait_for_more(15)
        os.kill(unhealthy.pid, signal.SIGKILL)
        clients.wait_for_more(30)
    assert clients.refused == []
    acknowledged = set(clients.acknowledged)
    found = stored_crashes(root_of(unhealthy)).keys() | stored_crashes(chain.secondary).keys()
    assert acknowledged <= found


def test_a_primary_that_hangs_from_the_start(unhealthy: FuseMount) -> None:
    unhealthy.fault("hang all")
    chain = chain_on(unhealthy)
    with chain.daemon:
        crash_id = chain.post(make_report("start", 300_000))
        assert crash_id in stored_crashes(chain.secondary)
        unhealthy.heal()
        chain.until_primary_takes()


def test_stops_while_the_primary_hangs(unhealthy: FuseMount) -> None:
    chain = chain_on(unhealthy)
    with chain.daemon:
        chain.post(make_report("before", 10))
        unhealthy.fault("hang all")
        crash_id = chain.post(make_report("during", 300_000))
        began = time.monotonic()
        chain.daemon.stop(8)
        assert time.monotonic() - began < 8
    assert crash_id in stored_crashes(chain.secondary)


def test_the_heartbeat_says_what_ails_a_store(unhealthy: FuseMount) -> None:
    chain = chain_on(unhealthy)
    primary, secondary = str(chain.primary), str(chain.secondary)
    with chain.daemon:
        assert chain.heartbeat() == (200, {primary: "", secondary: ""})
        unhealthy.fault("eio fsync")
        status, trouble = chain.heartbeat()
        assert (status, trouble[secondary]) == (503, "")
        assert "syncs of files do not work here (fsync: EIO)" in trouble[primary]
        unhealthy.heal()
        assert chain.heartbeat() == (200, {primary: "", secondary: ""})


def test_both_stores_hang(unhealthy: FuseMount) -> None:
    primary, secondary = unhealthy.path / "root", unhealthy.path / "other"
    chain = make_chain(unhealthy.path.parent, primary, secondary, timeout=TIMEOUT, patience=10)
    report = make_report("nowhere", 300_000)
    with chain.daemon:
        unhealthy.fault("hang all")
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            heartbeat = pool.submit(chain.heartbeat)
            answer = post(chain.daemon.port, report.body(), HEADERS, timeout=40)
            assert 9 < time.monotonic() - began < 18
            status, trouble = heartbeat.result()
        assert (status, all("nothing for" in why or "hangs" in why for why in trouble.values())) == (503, True), trouble
        assert (answer.status, answer.body) == (503, b"Discarded=nowhere_to_save")
        assert int(answer.headers["retry-after"]) > 0
        unhealthy.heal()
        until(lambda: chain.heartbeat()[0] == 200)
        chain.settle({})
        assert stored_crashes(chain.primary) == stored_crashes(chain.secondary) == {}
