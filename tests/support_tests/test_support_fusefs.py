"""
The file system that fails on demand.
"""

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path

import pytest

from tests.support.faults import parse_faults
from tests.support.fusefs import FuseMount, can_mount_fuse, mounted, mounted_below

needs_fuse = pytest.mark.skipif(can_mount_fuse() != "", reason=can_mount_fuse())


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[FuseMount]:
    with mounted_below(tmp_path) as mount:
        yield mount
    assert not os.path.ismount(mount.path)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def error_of(work: Callable[[], object]) -> str | None:
    try:
        work()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


@pytest.mark.parametrize("line", ["hang", "eexplode write", "hang write after", "hang write after x bytes", "path all"])
def test_not_a_fault(line: str) -> None:
    with pytest.raises(ValueError, match=r"fault|errno|invalid literal"):
        parse_faults(line)


@needs_fuse
def test_healthy(mount: FuseMount) -> None:
    place = mount.path / "a" / "b"
    place.mkdir(parents=True, mode=0o700)
    file, other, link = place / "new", place / "file", mount.path / "link"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    assert os.write(descriptor, b"x" * 3_000_000) == 3_000_000
    os.fsync(descriptor)
    os.close(descriptor)
    assert error_of(lambda: os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL)) == "EEXIST"
    file.rename(other)
    sync(place)
    link.symlink_to("a/b")
    assert os.readlink(link) == "a/b"
    assert sorted(os.listdir(link)) == ["file"]
    with (link / "file").open("ab") as appending:
        appending.write(b"end")
    os.truncate(other, 3_000_002)
    assert (mount.source / "a" / "b" / "file").read_bytes() == b"x" * 3_000_000 + b"en"
    assert other.read_bytes()[-3:] == b"xen"
    other.chmod(0o640)
    os.utime(other, ns=(1, 2_000_000_003))
    found = other.stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns, found.st_size) == (0o640, 2_000_000_003, 3_000_002)
    os.link(other, place / "hard")
    assert other.stat().st_nlink == 2
    assert os.statvfs(mount.path).f_bavail > 0
    with other.open("r+b") as open_file:
        fcntl.flock(open_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with other.open("rb") as second:
            assert error_of(lambda: fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)) == "EAGAIN"
        other.unlink()
        assert os.listdir(place) == ["hard"]
        assert open_file.read(1) == b"x"
    (place / "hard").unlink()
    link.unlink()
    place.rmdir()
    assert os.listdir(mount.source) == ["a"]


@needs_fuse
@pytest.mark.parametrize(
    ("fault", "work"),
    [
        ("erofs create", lambda path: (path / "new").touch()),
        ("eio fsync", lambda path: sync(path / "file")),
        ("eio fsyncdir", lambda path: sync(path)),
        ("enospc write", lambda path: (path / "file").write_bytes(b"x")),
        ("estale getattr", lambda path: (path / "file").stat()),
        ("edquot mkdir", lambda path: (path / "new").mkdir()),
        ("eio rename", lambda path: (path / "file").rename(path / "new")),
        ("eacces symlink", lambda path: (path / "new").symlink_to("file")),
        ("eio statfs", os.statvfs),
        ("eio all", lambda path: (path / "file").read_bytes()),
        ("eio flush", lambda path: (path / "file").read_bytes()),
    ],
)
def test_fails(mount: FuseMount, fault: str, work: Callable[[Path], object]) -> None:
    (mount.path / "file").write_bytes(b"content")
    mount.fault(fault)
    assert error_of(lambda: work(mount.path)) == fault.split()[0].upper()
    mount.heal()
    assert error_of(lambda: work(mount.path)) is None


@needs_fuse
def test_fails_in_the_middle(mount: FuseMount) -> None:
    mount.fault("enospc write after 1000000 bytes", "eio fsync after 1000000 bytes")
    (mount.path / "before").write_bytes(b"x" * 400_000)
    sync(mount.path / "before")
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(descriptor, b"x" * 900_000) == 600_000
        assert error_of(lambda: os.write(descriptor, b"x")) == "ENOSPC"
        assert error_of(lambda: os.fsync(descriptor)) == "EIO"
        mount.fault("enospc write after 1000000 bytes")
        assert os.write(descriptor, b"x" * 900_000) == 900_000
    finally:
        os.close(descriptor)


@needs_fuse
@pytest.mark.parametrize("fault", ["hang write", "hang fsync", "hang create", "hang all"])
def test_hangs_alone_and_ends(mount: FuseMount, fault: str) -> None:
    (mount.path / "file").write_bytes(b"content")

    def work() -> None:
        with (mount.path / "new").open("wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())

    mount.fault(fault)
    with ThreadPoolExecutor() as pool:
        hung = [pool.submit(work) for _ in range(20)]
        with pytest.raises(FutureTimeout):
            hung[0].result(0.2)
        assert not any(future.done() for future in hung)
        if fault != "hang all":
            assert (mount.path / "file").read_bytes() == b"content"
        mount.fault(fault.replace("hang", "eio"))
        assert {error_of(future.result) for future in hung} == {"EIO"}


@needs_fuse
def test_a_killed_process_leaves_its_hung_operation(mount: FuseMount) -> None:
    mount.fault("hang fsync")
    script = "import os, sys; fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); print(flush=True); os.fsync(fd)"
    with subprocess.Popen([sys.executable, "-c", script, mount.path / "file"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        process.kill()
        assert process.wait(5) == -9


@needs_fuse
def test_unmounts_while_it_hangs(tmp_path: Path) -> None:
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    with ThreadPoolExecutor() as pool:
        with mounted(tmp_path, mountpoint) as mount:
            mount.fault("hang all")
            hung = pool.submit(os.listdir, mountpoint)
            time.sleep(0.1)
            assert not hung.done()
        assert error_of(hung.result) in ("ENOTCONN", "ECONNABORTED")
    assert os.listdir(mountpoint) == []
