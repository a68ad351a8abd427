"""
A real daemon whose stores are on file systems that are not mounted yet, go away and come back; and what else an
administrator may do to a root. Whatever is acknowledged is found where everybody looks for it.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.test_e2e_command import collectord
from tests.e2e.test_e2e_crashmover import moving, submit
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import curl
from tests.support.mounts import bind, can_mount, tmpfs
from tests.support.reports import harm
from tests.support.wait import until

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(can_mount()), reason=can_mount())]

OTHER = "this is not the store that was here before"


def state_of(path: Path) -> str:
    """Settings; the command finds what the daemon remembers."""
    return f'[state]\ndirectory = "{path}/state"\n'


def heartbeat(daemon: Daemon) -> tuple[int, str]:
    status, body = curl(daemon.url("/__heartbeat__"))
    return status, body.decode()


def is_well(daemon: Daemon) -> bool:
    return heartbeat(daemon)[0] == 200


def unmount(path: Path) -> None:
    subprocess.run(["umount", "-l", str(path)], check=True)


@contextmanager
def mounted(path: Path) -> Iterator[Path]:
    """A tmpfs; it may be gone in the end."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        while path.is_mount():
            unmount(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_system_that_goes_away_and_comes_back(tmp_path: Path, workers: int) -> None:
    """The mount point has a staging area of a start before the mount."""
    root, second, kept, port = tmp_path / "crashes", tmp_path / "second", tmp_path / "kept", free_port()
    toml = config(port, root, second, submission=f"workers = {workers}") + state_of(tmp_path)
    with Daemon(toml, port, tmp_path / "too-early"):
        pass
    below = sorted(root.rglob("*"))
    with mounted(root), bind(root, kept), Daemon(toml, port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, "a", "b")
        assert stored_crashes(root).keys() == acknowledged.keys()
        unmount(root)
        acknowledged |= submit(daemon, "c", "d", "e")
        assert stored_crashes(root) == {}
        until(lambda: OTHER in heartbeat(daemon)[1])
        assert heartbeat(daemon)[0] == 503
        until(lambda: f"{root}: {OTHER}" in daemon.log())
        assert f"run: collectord stores adopt {root}" in collectord("stores", "list", "-c", daemon.toml_path).stdout
        audit = collectord("audit", "today", "-c", daemon.toml_path)
        assert audit.status == 2
        assert OTHER in audit.stderr
        time.sleep(2)  # a probe each second, and the journal four times
        assert sorted(root.rglob("*")) == below
        with bind(kept, root):
            until(lambda: is_well(daemon))

            def is_used_again() -> bool:  # each worker finds that out by itself
                late = submit(daemon, f"late-{len(acknowledged)}")
                acknowledged.update(late)
                return late.keys() <= stored_crashes(root).keys()

            until(is_used_again)
            assert list(harm(acknowledged, root, second)) == []
            assert daemon.stop() == -15


@pytest.mark.parametrize("there", [True, False])
def test_a_start_before_the_mount(tmp_path: Path, there: bool) -> None:
    """The journal lies below the root, too, and must not make it."""
    mountpoint, second, port = tmp_path / "mount", tmp_path / "second", free_port()
    root = mountpoint if there else mountpoint / "crashes"
    toml = config(port, root, second) + state_of(tmp_path)
    mountpoint.mkdir()
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    mount = ["mount", "-o", "loop", str(image), str(mountpoint)]
    subprocess.run(mount, check=True)
    with Daemon(toml, port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, "a", "b")
    subprocess.run(["umount", str(mountpoint)], check=True)
    with daemon:
        acknowledged |= submit(daemon, "c", "d")
        assert (OTHER if there else f"there is no directory at {root}") in heartbeat(daemon)[1]
        assert collectord("check-config", "-c", daemon.toml_path).status == 1
        time.sleep(4)  # the journal is past its time of grace
        assert os.listdir(mountpoint) == []
        until(lambda: "the journal can't be written" in daemon.log())
        subprocess.run(mount, check=True)
        until(lambda: is_well(daemon))
        acknowledged |= submit(daemon, "e")
    assert list(harm(acknowledged, root, second)) == []
    assert len(stored_crashes(root)) == 3
    unmount(mountpoint)


def test_a_new_disk_is_adopted_without_a_restart(tmp_path: Path) -> None:
    root, port = tmp_path / "crashes", free_port()
    toml = config(port, root) + state_of(tmp_path)
    with Daemon(toml, port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, "a")
        with tmpfs(root, 1 << 26):
            until(lambda: OTHER in heartbeat(daemon)[1])
            assert os.listdir(root) == []
            assert collectord("stores", "adopt", root, "-c", daemon.toml_path).status == 0
            until(lambda: is_well(daemon))
            on_it = submit(daemon, "b")
            assert list(harm(on_it, root)) == []
        until(lambda: "mark of another one" in heartbeat(daemon)[1])
    assert list(harm(acknowledged, root)) == []


def test_a_destination_that_is_not_mounted_swallows_nothing(tmp_path: Path) -> None:
    source, destination, port = tmp_path / "crashes", tmp_path / "there", free_port()
    toml = config(port, source, moves=True) + moving(destination) + state_of(tmp_path)
    kept = tmp_path / "kept"
    destination.mkdir()
    with ExitStack() as stays:
        with tmpfs(destination, 1 << 26), Daemon(toml, port, tmp_path / "work") as daemon:
            stays.enter_context(bind(destination, kept))
            acknowledged = submit(daemon, "a")
            until(lambda: stored_crashes(destination).keys() == acknowledged.keys())
        with daemon:
            late = submit(daemon, "b", "c")
            until(lambda: OTHER in daemon.log())
            time.sleep(2)
            assert os.listdir(destination) == []
            assert stored_crashes(source).keys() == late.keys()
            with bind(kept, destination):
                until(lambda: stored_crashes(destination).keys() == (acknowledged | late).keys(), 90)
                assert list(harm(acknowledged | late, destination)) == []
                daemon.stop()


def test_what_is_done_to_a_root_while_it_is_used(tmp_path: Path) -> None:
    """As an administrator does it, or systemd-tmpfiles. What is removed is removed; what comes later is kept."""
    root, port = tmp_path / "crashes", free_port()
    with Daemon(config(port, root), port, tmp_path / "work") as daemon:
        submit(daemon, "a")

        def no_staging() -> None:
            shutil.rmtree(root / "staging")

        def no_locks() -> None:
            for lock in root.glob("staging/**/lock"):
                lock.unlink()

        def no_days() -> None:
            for day in root.glob("20*"):
                shutil.rmtree(day)

        def no_old_files() -> None:
            for path in root.rglob("*"):
                if path.is_file() or path.is_symlink():
                    path.unlink()

        def other_modes() -> None:
            root.chmod(0o777)

        def moved_and_linked() -> None:
            root.rename(tmp_path / "elsewhere")
            root.symlink_to(tmp_path / "elsewhere")

        for number, do in enumerate(
            [no_staging, no_locks, no_days, no_old_files, other_modes, moved_and_linked, no_staging, no_days]
        ):
            do()
            acknowledged = submit(daemon, f"n{number}")
            assert acknowledged.keys() <= stored_crashes(root).keys(), do.__name__
        until(lambda: is_well(daemon))
    with daemon:
        acknowledged |= submit(daemon, "z")
    assert list(harm(acknowledged, root)) == []
