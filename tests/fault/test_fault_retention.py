"""
Retention under load, and killed in the midst of it: an old crash is whole or gone, a new one is there.
"""

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.fusefs import can_mount_fuse, mounted
from tests.support.load import SMALL, load
from tests.support.mounts import can_mount, loop_ext4, sync_filesystem
from tests.support.reports import harm
from tests.support.wait import until
from tests.unit.cli.command import keep

pytestmark = pytest.mark.fault

OLD = datetime(2016, 6, 22, 15, 19, 49, tzinfo=UTC)
DUMPS = {"upload_file_minidump": b"MDMP" * 100, "extra_1": b"x" * 5000}


def keep_old(root: Path, number: int) -> str:
    """A crash of long ago, in a store whose daemon has run until now."""
    crash_id = f"{number:08x}-57c6-4e5d-b2cf-cabde2160622"
    sums = {name: hashlib.sha256(dump).hexdigest() for name, dump in DUMPS.items()}
    raw_crash = {
        "uuid": crash_id,
        "submitted_timestamp": (OLD + timedelta(seconds=number % 900)).isoformat(),
        "Serial": "old",
        "metadata": {"dump_checksums": sums},
    }
    place = keep(root, raw_crash, DUMPS)
    for file in (place.raw_crash, *map(place.dump, DUMPS)):
        os.chmod(file, 0o600)
    os.utime(place.raw_crash, (OLD.timestamp(), OLD.timestamp()))
    return crash_id


def old_in(root: Path) -> set[str]:
    """The old crashes in a store at rest; each is whole."""
    found = {crash_id: crash for crash_id, crash in stored_crashes(root).items() if crash_id.endswith("160622")}
    assert all(crash.dumps == DUMPS for crash in found.values())
    return set(found)


def test_killed_in_the_midst_of_retention(tmp_path: Path) -> None:
    root, port = tmp_path / "root", free_port()
    old = {keep_old(root, n * 70_001) for n in range(3000)}
    (root / "retention.time").write_text(datetime.now(UTC).isoformat())
    toml = config(port, root, submission="workers = 2", storage="keep_days = 30")
    acknowledged: dict[str, str] = {}
    with Daemon(toml, port, tmp_path / "work") as daemon:
        for lives, removed in enumerate((100, 600), 1):
            # One that is stopped while it starts refuses what comes then.
            until(lambda lives=lives: daemon.log().count("taking crash reports") == lives)  # type: ignore[misc]
            with load(port, clients=2, shapes=[SMALL]) as clients:
                until(lambda removed=removed: daemon.log().count(": keep_days") > removed, 60)  # type: ignore[misc]
                daemon.kill()
            assert clients.refused == []
            acknowledged |= clients.acknowledged
            left = {path.stem for path in (root / "20160622" / "name").glob("*/*/*.json")}
            assert set() < left < old
            daemon.start()
        until(lambda: not list((root / "20160622").glob("*/*/*/*.*")), 60)
        daemon.stop()
        assert "Traceback" not in daemon.log()
    assert old_in(root) == set()
    assert problems(root) == []
    assert list(harm(acknowledged, root)) == []
    assert acknowledged


@pytest.mark.skipif(bool(can_mount_fuse()), reason=can_mount_fuse() or "-")
@pytest.mark.parametrize("processes", [0, 1], ids=["workers", "receivers and a mover"])
def test_it_yields_while_crashes_wait_for_a_disk_in_a_worker(tmp_path: Path, processes: int) -> None:
    """It runs in their parent, which saves nothing."""
    behind, mount = tmp_path / "behind", tmp_path / "mount"
    for directory in (behind, mount):
        directory.mkdir()
    for number in range(1200):
        keep_old(behind, number * 70_001)
    (behind / "retention.time").write_text(datetime.now(UTC).isoformat())
    with mounted(behind, mount) as disk:
        port = free_port()
        toml = config(port, mount, submission="workers = 2", storage="keep_days = 30\ntimeout_s = 60.0", moves=True)
        toml += f'[crashmover]\nprocesses = {processes}\n[ledger]\ndirectory = "{tmp_path / "ledger"}"\n'
        with Daemon(toml, port, tmp_path / "work") as daemon:
            until(lambda: ": keep_days" in daemon.log(), 60)
            disk.fault("hang fsync")
            with load(port, clients=1) as clients:
                try:
                    time.sleep(3)  # until it is told
                    since = time.time()
                    time.sleep(4)
                    assert turns_in(tmp_path / "ledger", 0) > 0
                    assert turns_in(tmp_path / "ledger", since) <= 12  # two a second; else there are ten or so
                finally:
                    clients.stopping.set()
                    disk.heal()
            daemon.stop()


def turns_in(ledger: Path, since: float) -> int:
    """How often since then it has removed some crashes in one go, by the times in the journal."""
    times = [time_in(line) for line in (ledger / "20160622.journal").read_text().splitlines()]
    return sum(after - before > 0.04 for before, after in pairwise(t for t in times if t > since))


def time_in(line: str) -> float:
    return datetime.fromisoformat(line.partition("\t")[0]).timestamp()


def test_what_a_kill_leaves_of_old_crashes_is_whole(tmp_path: Path) -> None:
    root, port = tmp_path / "root", free_port()
    old = {keep_old(root, n * 70_001) for n in range(500)}
    (root / "retention.time").write_text(datetime.now(UTC).isoformat())
    with Daemon(config(port, root, storage="keep_days = 30"), port, tmp_path / "work") as daemon:
        until(lambda: ": keep_days" in daemon.log(), 60)
        daemon.kill()
    port = free_port()
    with Daemon(config(port, root), port, tmp_path / "work-second"):  # without limits, it only sweeps
        left = old_in(root)
        assert set() < left < old
        assert problems(root) == []


@pytest.mark.skipif(bool(can_mount()), reason=can_mount() or "-")
@pytest.mark.parametrize("fault", ["power cut", "read-only"])
def test_its_disk_fails_in_the_midst_of_it(tmp_path: Path, fault: str) -> None:
    with loop_ext4(tmp_path / "disk", 128 * 1024 * 1024) as disk:
        root, port = disk.path / "root", free_port()
        old = {keep_old(root, n * 70_001) for n in range(600)}
        (root / "retention.time").write_text(datetime.now(UTC).isoformat())
        sync_filesystem(disk.path)
        toml = config(port, root, storage="keep_days = 30")
        with Daemon(toml, port, tmp_path / "work") as daemon:
            until(lambda: daemon.log().count(": keep_days") > 20, 60)
            sync_filesystem(disk.path)  # in the midst of some removals
            until(lambda: daemon.log().count(": keep_days") > 100, 60)
            if fault == "power cut":
                disk.power_cut()
                daemon.kill()
            else:
                disk.abort()
                until(lambda: "retention will try again" in daemon.log())
                daemon.stop()
                assert "Traceback" not in daemon.log()
        disk.remount()
        port = free_port()
        with Daemon(config(port, root), port, tmp_path / "work-second"):  # without limits, it only sweeps
            assert set() < old_in(root) < old
            assert problems(root) == []
        with Daemon(config(port, root, storage="keep_days = 30"), port, tmp_path / "work-third"):
            until(lambda: not list((root / "20160622").glob("*/*/*/*.*")), 60)
        assert problems(root) == []
