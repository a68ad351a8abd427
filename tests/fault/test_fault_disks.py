"""
A primary store that is full, read-only or not there: the next one takes every crash, whole.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen

from tests.support.chain import Chain, make_chain
from tests.support.disk import problems, stored_crashes
from tests.support.load import SMALL, SPILLED, load
from tests.support.mounts import can_mount, loop_ext4, tmpfs
from tests.support.reports import crash_id_in, make_report
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.fault

needs_mount = pytest.mark.skipif(can_mount() != "", reason=can_mount())

MIB = 2**20
IN_MEMORY, SPILLS = 64 * MIB, 0


def mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True)


@frozen
class Mountpoint:
    """What is in C{source} shows at C{path}, too, while it is mounted."""

    source: Path
    path: Path

    def mount(self) -> None:
        mount("--bind", str(self.source), str(self.path))

    def unmount(self) -> None:
        """Whatever is open there stays so."""
        subprocess.run(["umount", "-l", str(self.path)], check=True, capture_output=True)


@contextmanager
def bound(source: Path, path: Path) -> Iterator[Mountpoint]:
    """Mounted, at first."""
    source.mkdir()
    path.mkdir()
    mountpoint = Mountpoint(source, path)
    mountpoint.mount()
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)


def assert_falls_back(chain: Chain, primary: Path | None = None) -> None:
    """Reports of all sizes end in the secondary, and nothing is left of them in the primary."""
    acknowledged = {}
    for n, sizes in enumerate([(10,), (100_000, 10), (3 * MIB,), (10,)]):
        report = make_report(f"fallback-{n}", *sizes)
        crash_id = chain.post(report)
        assert chain.where(crash_id) == ["secondary"]
        acknowledged[crash_id] = report.annotations["Serial"]
    chain.settle(acknowledged, primary)


@needs_mount
@pytest.mark.parametrize("memory", [IN_MEMORY, SPILLS], ids=["in memory", "spilled"])
def test_a_full_primary(tmp_path: Path, memory: int) -> None:
    with tmpfs(tmp_path / "primary", 2 * MIB) as primary:
        ballast = primary / "ballast"
        ballast.write_bytes(bytes(2 * MIB - 64 * 1024))
        chain = make_chain(tmp_path, primary / "root", memory=memory)
        with chain.daemon:
            assert_falls_back_when_full(chain)
            ballast.unlink()
            chain.until_primary_takes()
        assert "Traceback" not in chain.daemon.log()


def assert_falls_back_when_full(chain: Chain) -> None:
    """What fits may go to the primary; what does not is whole in the secondary."""
    acknowledged = {}
    for n, size in enumerate([3 * MIB, 100_000, 10, 3 * MIB]):
        report = make_report(f"full-{n}", size)
        crash_id = chain.post(report)
        assert size < 1000 or chain.where(crash_id) == ["secondary"]
        acknowledged[crash_id] = report.annotations["Serial"]
    chain.settle(acknowledged)


@needs_mount
def test_a_primary_that_fills_up_in_the_middle(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "primary", 4 * MIB) as primary:
        chain = make_chain(tmp_path, primary, memory=SPILLS)
        with chain.daemon, load(chain.daemon.port, shapes=[SPILLED, SMALL, (MIB,)]) as clients:
            clients.wait_for_more(60)
        assert clients.refused == []
        assert chain.harm(clients.acknowledged) == []
        assert len(stored_crashes(primary)) > 0
        assert len(stored_crashes(chain.secondary)) > 0
        assert "Traceback" not in chain.daemon.log()


@needs_mount
def test_a_primary_with_too_little_space_left(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "primary", 2 * MIB) as primary:
        chain = make_chain(tmp_path, primary / "root")
        chain.daemon.toml = chain.daemon.toml.replace("min_free_bytes = 0", f"min_free_bytes = {MIB}")
        (primary / "ballast").write_bytes(bytes(MIB + 8192))
        with chain.daemon:
            assert_falls_back(chain)
            assert "min_free_bytes" in chain.heartbeat()[1][str(chain.primary)]


@needs_mount
@pytest.mark.parametrize("memory", [IN_MEMORY, SPILLS], ids=["in memory", "spilled"])
@pytest.mark.parametrize("inodes", [7, 28, 32, 36, 40])
def test_a_primary_out_of_inodes(tmp_path: Path, inodes: int, memory: int) -> None:
    """It runs out at another step with each number: the files, or the directories that they need."""
    with tmpfs(tmp_path / "primary", 2 * MIB, inodes) as primary:
        chain = make_chain(tmp_path, primary, memory=memory)
        with chain.daemon:
            acknowledged = {}
            for n in range(4):
                report = make_report(f"inodes-{n}", 50_000, 10, 10, 10)
                acknowledged[chain.post(report)] = report.annotations["Serial"]
            assert len(stored_crashes(primary)) < 4
            chain.settle(acknowledged)


@needs_mount
def test_a_primary_that_was_read_only_from_the_start(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "primary", 2 * MIB) as primary:
        mount("-o", "remount,ro", str(primary))
        chain = make_chain(tmp_path, primary)
        with chain.daemon:
            assert_falls_back(chain)
            mount("-o", "remount,rw", str(primary))
            chain.until_primary_takes()


@needs_mount
@pytest.mark.parametrize("memory", [IN_MEMORY, SPILLS], ids=["in memory", "spilled"])
def test_a_primary_that_becomes_read_only_under_load(tmp_path: Path, memory: int) -> None:
    with loop_ext4(tmp_path / "primary", 64 * MIB) as ext4:
        chain = make_chain(tmp_path, ext4.path, memory=memory)
        with chain.daemon:
            with load(chain.daemon.port, shapes=[SMALL, SPILLED]) as clients:
                clients.wait_for_more(30)
                ext4.abort()
                clients.wait_for_more(60)
            chain.daemon.stop()
        assert clients.refused == []
        ext4.remount()
        with chain.daemon:  # sweeps what could not be undone on a read-only disk
            pass
        assert chain.harm(clients.acknowledged) == []
        assert len(stored_crashes(chain.secondary)) > 0


def test_a_primary_that_can_not_be_made(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.write_bytes(b"a file, where a directory should be")
    chain = make_chain(tmp_path, parent / "primary")
    with chain.daemon:
        report = make_report("missing", 100_000)
        crash_id = chain.post(report)
        assert chain.where(crash_id) == ["secondary"]
        assert problems(chain.secondary) == []
        parent.unlink()
        parent.mkdir()
        chain.until_primary_takes()
    assert chain.harm({crash_id: report.annotations["Serial"]}) == []


@needs_mount
@pytest.mark.parametrize("memory", [IN_MEMORY, SPILLS], ids=["in memory", "spilled"])
def test_a_primary_that_goes_away_and_comes_back(tmp_path: Path, memory: int) -> None:
    """An unmounted store: nothing may be written to the directory below."""
    with bound(tmp_path / "source", tmp_path / "primary") as mountpoint:
        chain = make_chain(tmp_path, mountpoint.path, memory=memory)
        with chain.daemon, load(chain.daemon.port, shapes=[SMALL, SPILLED]) as clients:
            clients.wait_for_more(30)
            mountpoint.unmount()
            clients.wait_for_more(60)
            assert chain.heartbeat()[0] == 503  # it was tried, and did not make itself at home below
            gone = len(stored_crashes(mountpoint.source))
            assert gone > 0
            assert [path for path in mountpoint.path.rglob("*") if not path.is_dir() or path.is_symlink()] == []
            mountpoint.mount()
            until(lambda: len(stored_crashes(mountpoint.source)) > gone)
            clients.wait_for_more(30)
        # A dump that was spilled there can't be fetched from there any more.
        assert all(memory == SPILLS and refusal.status == 503 for refusal in clients.refused)
        assert len(clients.refused) < 10
        with chain.daemon:  # sweeps what could not be removed from a place that was not there
            pass
        assert chain.harm(clients.acknowledged, mountpoint.source) == []
        assert len(stored_crashes(chain.secondary)) > 0


@needs_mount
def test_a_primary_that_goes_away_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    report = make_report("gone", 4 * MIB)
    with bound(tmp_path / "source", tmp_path / "primary") as mountpoint:
        chain = make_chain(tmp_path, mountpoint.path)
        with chain.daemon, Upload(chain.daemon.port, report.body()) as upload:
            upload.send_to(2 * MIB)
            mountpoint.unmount()
            crash_id = crash_id_in(upload.finish())
            assert chain.where(crash_id) == ["secondary"]
            assert chain.harm({crash_id: report.annotations["Serial"]}, mountpoint.source) == []
