"""
Power cuts on a journaled ext4: what was acknowledged is whole when the power is back.

The cut is the shutdown ioctl without a flush of the log: what the journal has not written by then is gone.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import post
from tests.support.load import SMALL, SPILLED, load
from tests.support.mounts import can_mount, loop_ext4
from tests.support.reports import HEADERS, crash_id_in, harm, is_whole, make_report

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(can_mount() != "", reason=can_mount()),
]

MIB = 2**20
IN_MEMORY, SPILLS = 64 * MIB, 0


def daemon_on(root: Path, workdir: Path, sync: str, memory: int = IN_MEMORY) -> Daemon:
    port = free_port()
    toml = config(port, root, submission=f"memory_bytes = {memory}", storage=f'sync = "{sync}"\ntimeout_s = 1.0')
    return Daemon(toml, port, workdir)


@pytest.mark.parametrize("sync", ["files", "filesystem"])
@pytest.mark.parametrize("memory", [IN_MEMORY, SPILLS], ids=["in memory", "spilled"])
def test_cut_under_load(tmp_path: Path, sync: str, memory: int) -> None:
    with loop_ext4(tmp_path / "disk", 256 * MIB) as disk:
        root = disk.path / "root"
        for n in range(2):
            with (
                daemon_on(root, tmp_path / f"work-{n}", sync, memory) as daemon,
                load(daemon.port, shapes=[SMALL, SPILLED]) as clients,
            ):
                clients.wait_for_more(40 + 23 * n)
                disk.power_cut()
                acknowledged = dict(clients.acknowledged)
                daemon.kill()
            disk.remount()
            crashes = stored_crashes(root)
            assert acknowledged.keys() - crashes.keys() == set()
            assert all(is_whole(crash) for crash in crashes.values())
            with daemon_on(root, tmp_path / f"again-{n}", sync):
                everything = {crash_id: str(crash.raw_crash["Serial"]) for crash_id, crash in crashes.items()}
                assert list(harm(everything, root)) == []


@pytest.mark.parametrize("sync", ["files", "filesystem"])
def test_cut_right_after_an_answer(tmp_path: Path, sync: str) -> None:
    """The last answer is the hardest: no later journal commit takes its directory entries along."""
    with loop_ext4(tmp_path / "disk", 128 * MIB) as disk:
        root = disk.path / "root"
        acknowledged = {}
        for n in range(4):
            with daemon_on(root, tmp_path / f"work-{n}", sync) as daemon:
                report = make_report(f"last-{n}", 20_000, 1000)
                crash_id = crash_id_in(post(daemon.port, report.body(), HEADERS))
                disk.power_cut()
                daemon.kill()
            acknowledged[crash_id] = report.annotations["Serial"]
            disk.remount()
            with daemon_on(root, tmp_path / f"again-{n}", sync):
                assert list(harm(acknowledged, root)) == []


NO_SYNC = """
int fsync(int fd) { return 0; }
int fdatasync(int fd) { return 0; }
int syncfs(int fd) { return 0; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize("sync", ["files", "filesystem"])
def test_a_daemon_that_does_not_sync_is_found_out(tmp_path: Path, sync: str) -> None:
    """The control: these tests can fail."""
    source, library = tmp_path / "no_sync.c", tmp_path / "no_sync.so"
    source.write_text(NO_SYNC)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    with loop_ext4(tmp_path / "disk", 128 * MIB) as disk:
        root = disk.path / "root"
        daemon = daemon_on(root, tmp_path / "work", sync)
        daemon.env = {"LD_PRELOAD": str(library)}
        with daemon, load(daemon.port, shapes=[SMALL, SPILLED]) as clients:
            clients.wait_for_more(40)
            disk.power_cut()
            acknowledged = dict(clients.acknowledged)
            daemon.kill()
        disk.remount()
        assert any("is lost" in harmed for harmed in harm(acknowledged, root))


def test_what_is_not_synced_is_gone(tmp_path: Path) -> None:
    """The control: the cut does take what nobody synced, files and renames."""
    with loop_ext4(tmp_path / "disk", 64 * MIB) as disk:
        with open(disk.path / "staged", "wb") as f:
            f.write(b"x")
            f.flush()
            os.fsync(f.fileno())
        (disk.path / "staged").rename(disk.path / "renamed")
        (disk.path / "written").write_bytes(b"x" * 1000)
        disk.power_cut()
        disk.remount()
        assert not (disk.path / "written").exists()
        assert (disk.path / "staged").exists()
        assert not (disk.path / "renamed").exists()
