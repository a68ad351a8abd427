"""
Stores on other file systems than the one of this machine, for real: whole lives on each.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.support.chain import make_chain
from tests.support.fusefs import FuseMount, can_mount_fuse, mounted_below
from tests.support.lives import LIVES
from tests.support.mounts import can_mount, mounted_at, tmpfs
from tests.support.reports import make_report
from tests.support.uml import can_boot, nfs_commands, nfs_server_tools, python, run_in_guest
from tests.support.wait import until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

_SFTP_SERVER = "/usr/lib/openssh/sftp-server"
Life = Callable[[Path, Path], None]

every_life = pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)


def can_serve(kind: str) -> str:
    """Empty if this machine has that FUSE server, else what is missing."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no access to /dev/fuse"
    if shutil.which(kind) is None:
        return f"no {kind}"
    return "" if kind != "sshfs" or os.path.exists(_SFTP_SERVER) else f"no {_SFTP_SERVER}"


def commands(kind: str, source: Path, mountpoint: Path) -> Sequence[str]:
    if kind == "bindfs":
        return ["bindfs", str(source), str(mountpoint)]
    ssh = source.with_name("ssh")  # no server of it is needed: whoever asks for one gets the end of the tunnel
    ssh.write_text(f"#!/bin/sh\nexec {_SFTP_SERVER}\n")
    ssh.chmod(0o755)
    return ["sshfs", "-o", f"ssh_command={ssh}", f"localhost:{source}", str(mountpoint)]


@contextmanager
def served(kind: str, directory: Path, source: Path | None = None) -> Iterator[Path]:
    """An empty directory through that FUSE server, or C{source}."""
    source, mountpoint = source or directory / "source", directory / "mount"
    source.mkdir(exist_ok=True)
    mountpoint.mkdir()
    subprocess.run(commands(kind, source, mountpoint), check=True, capture_output=True)
    try:
        until(lambda: os.path.ismount(mountpoint))
        yield mountpoint
    finally:
        subprocess.run(["fusermount", "-uz", str(mountpoint)], check=False, capture_output=True)


def tried(kind: str) -> ParameterSet:
    return pytest.param(kind, marks=pytest.mark.skipif(can_serve(kind) != "", reason=can_serve(kind)))


@pytest.mark.parametrize("kind", [tried("sshfs"), tried("bindfs")])
@every_life
def test_fuse_servers(tmp_path: Path, kind: str, life: Life) -> None:
    with served(kind, tmp_path) as mountpoint:
        life(mountpoint / "crashes", tmp_path / "work")


# One that lacks what vfat lacks, where the kernel here has no vfat.

needs_fuse = pytest.mark.skipif(can_mount_fuse() != "", reason=can_mount_fuse())


@pytest.fixture
def poor(tmp_path: Path) -> Iterator[FuseMount]:
    with mounted_below(tmp_path) as mount:
        yield mount


@needs_fuse
@pytest.mark.parametrize(
    "lacks", [("enosys symlink", "enosys link"), ("eperm symlink", "eperm link")], ids=["enosys", "eperm"]
)
@every_life
def test_without_links_of_any_kind(poor: FuseMount, tmp_path: Path, lacks: tuple[str, ...], life: Life) -> None:
    poor.fault(*lacks)
    life(poor.path / "crashes", tmp_path / "work")


@needs_fuse
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("eio rename", "renames do not work here (rename: EIO)"),
        ("enosys mkdir", ""),
        ("eio fsync", "syncs of files do not work here (fsync: EIO)"),
        ("eio fsyncdir", "syncs of directories do not work here (fsync: EIO)"),
        ("eperm unlink", "removals do not work here (unlink: EPERM)"),
    ],
)
def test_what_can_be_no_store_says_so_at_once(poor: FuseMount, tmp_path: Path, fault: str, message: str) -> None:
    poor.fault(fault)
    chain = make_chain(tmp_path, poor.path / "crashes")
    with chain.daemon:
        status, problems = chain.heartbeat()
        assert status == 503
        assert message in problems[str(chain.primary)]
        assert problems[str(chain.primary)] != ""
        crash_id = chain.post(make_report("first", 100), timeout=5)
        assert chain.where(crash_id) == ["secondary"]
        assert "failed: " not in chain.daemon.log()  # no crash was tried with it
        poor.heal()
        chain.until_primary_takes()
        assert chain.heartbeat()[0] == 200


# What tells nothing of its space, and what syncs nothing.


@pytest.mark.skipif(can_mount() != "", reason=can_mount())
@every_life
def test_ramfs(tmp_path: Path, life: Life) -> None:
    with tmpfs(tmp_path / "mount", 2**20, kind="ramfs") as mountpoint:
        life(mountpoint / "crashes", tmp_path / "work")


@pytest.mark.skipif(can_mount() != "", reason=can_mount())
def test_what_is_not_promised_is_said(tmp_path: Path) -> None:
    for name in ("lower", "upper", "scratch"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/scratch,volatile"
    with mounted_at(tmp_path / "mount", "-t", "overlay", "-o", options, "overlay") as mountpoint:
        chain = make_chain(tmp_path, mountpoint / "crashes")
        with chain.daemon:
            assert chain.heartbeat()[0] == 200
            until(lambda: f"{chain.primary}: on overlay: it is mounted volatile" in chain.daemon.log())


@pytest.mark.skipif(can_serve("bindfs") != "", reason=can_serve("bindfs"))
def test_a_sync_that_reaches_nobody_is_refused_and_the_next_store_serves(tmp_path: Path) -> None:
    with served("bindfs", tmp_path) as mountpoint:
        chain = make_chain(tmp_path, mountpoint / "crashes")
        chain.daemon.toml = chain.daemon.toml.replace(
            "min_free_bytes = 0", 'min_free_bytes = 0\nsync = "filesystem"', 1
        )
        with chain.daemon:
            assert 'sync = "filesystem" syncs nothing on fuse' in chain.heartbeat()[1][str(chain.primary)]
            assert chain.where(chain.post(make_report("first", 100))) == ["secondary"]


# Real NFS, and real vfat, of a kernel that has them.

needs_guest = pytest.mark.skipif(can_boot() != "", reason=can_boot())


def lived(said: str) -> Mapping[str, int]:
    """How often each life was lived, by what the guest has said."""
    return {life.__name__: said.count(f"{life.__name__}: well") for life in LIVES}


@needs_guest
def test_nfs() -> None:
    tools = nfs_server_tools()
    if tools is None:
        pytest.skip("no nfs-kernel-server to be had")
    said = run_in_guest(
        nfs_commands(tools)
        + python("tests.support.lives", "/mnt/nfs4/four", "/mnt/work/four", "as_primary", "as_fallback")
        + "\n"
        + python("tests.support.lives", "/mnt/nfs3/three", "/mnt/work/three", "as_primary", "as_destination")
        + "\n",
        timeout=500,
    )
    assert lived(said) == {"as_primary": 2, "as_fallback": 1, "as_source": 0, "as_destination": 1}


@needs_guest
@pytest.mark.skipif(shutil.which("mkfs.vfat") is None, reason="no mkfs.vfat")
def test_vfat() -> None:
    """No links of any kind, no permissions, and names that differ by case only are one."""
    said = run_in_guest(
        "modules loop vfat nls_cp437 nls_iso8859-1\nmkdir /mnt/vfat /mnt/work\ntruncate -s 100M /mnt/image\n"
        "mkfs.vfat /mnt/image\nmount -o loop /mnt/image /mnt/vfat\n"
        + python("tests.support.lives", "/mnt/vfat", "/mnt/work", "as_primary", "as_source")
        + "\n",
        timeout=300,
    )
    assert lived(said) == {"as_primary": 1, "as_fallback": 0, "as_source": 1, "as_destination": 0}
