"""
Each file operation, where it works and where it does not.
"""

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from collectord.storage.content import NotAsReceived
from collectord.storage.filesystem.fsops import (
    copy_verified,
    create_empty,
    create_file,
    fsync_directory,
    list_directory,
    lock,
    locked,
    remove_any,
    remove_tree,
    try_hard_link,
    try_unlink,
    unlink_if_there,
    write_all,
)
from tests.unit.storage.stores import failing, noted_syncs, open_files, watched


def a_file(path: Path, content: bytes = b"content") -> str:
    path.write_bytes(content)
    return str(path)


def an_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def a_loop(path: Path) -> str:
    """A symlink to itself: whoever opens it gets an error, even root."""
    path.symlink_to(path)
    return str(path)


# Listing


def test_the_names_in_a_directory(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden"):
        a_file(tmp_path / name)
    assert sorted(list_directory(str(tmp_path))) == [".hidden", "a", "b"]


def test_what_is_no_directory_has_no_names(tmp_path: Path) -> None:
    assert list_directory(str(tmp_path / "absent")) == []
    assert list_directory(a_file(tmp_path / "file")) == []


def test_a_directory_that_can_t_be_read(tmp_path: Path) -> None:
    loop, errors = a_loop(tmp_path / "loop"), list[OSError]()
    with pytest.raises(OSError, match="symbolic links"):
        list_directory(loop)
    assert list_directory(loop, errors) == []
    assert [error.errno for error in errors] == [errno.ELOOP]


# Creating and writing


def test_a_file_is_created_for_its_owner_and_closed_in_children(tmp_path: Path) -> None:
    fd = create_file(str(tmp_path / "file"))
    os.write(fd, b"x")
    assert (os.fstat(fd).st_mode & 0o777, os.get_inheritable(fd)) == (0o600, False)
    os.close(fd)


def test_a_file_gets_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    os.close(create_file(str(tmp_path / "file"), 0o400))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("create", [create_file, create_empty])
@pytest.mark.parametrize("there", [a_file, a_loop, lambda path: path.mkdir()], ids=["file", "symlink", "directory"])
def test_nothing_is_created_over_what_is_there(
    tmp_path: Path, create: Callable[[str], object], there: Callable[[Path], object]
) -> None:
    there(tmp_path / "name")
    with pytest.raises(FileExistsError):
        create(str(tmp_path / "name"))
    assert open_files(tmp_path) == []


def test_an_empty_file(tmp_path: Path) -> None:
    create_empty(str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b""
    assert open_files(tmp_path) == []


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        ([], 0),
        ([b"a", b"", b"bc"], 1),
        ([b"x"] * 1024, 1),
        ([b"x"] * 1025, 2),
        ([b"x" * 100_000, b"y" * 100_000], 2),
        ([b"x" * 1_000_000], 1),
    ],
    ids=["nothing", "little", "most pieces", "too many pieces", "too many bytes", "one large piece"],
)
def test_pieces_are_written_in_few_calls(tmp_path: Path, pieces: list[bytes], calls: int) -> None:
    with (tmp_path / "file").open("wb") as file, watched(tmp_path, ["writev"], lambda seen, name, do: do()) as seen:
        write_all(file.fileno(), pieces)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)
    assert seen.seen == calls


def test_what_one_call_leaves_is_written_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes at most two bytes."""
    write = os.write
    monkeypatch.setattr(os, "writev", lambda fd, pieces: write(fd, b"".join(pieces)[:2]))
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:2]))
    with (tmp_path / "file").open("wb") as file:
        write_all(file.fileno(), [b"abc", b"de", b"f"])
    assert (tmp_path / "file").read_bytes() == b"abcdef"


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with (
        (tmp_path / "file").open("wb") as file,
        failing(tmp_path, "writev", 2, an_error(errno.ENOSPC)),
        pytest.raises(OSError, match="No space"),
    ):
        write_all(file.fileno(), [b"x" * 100_000, b"y" * 100_000])


# Copying


def copied(source: str, to: Path, sha256: str) -> bytes:
    with to.open("wb") as file:
        copy_verified(file.fileno(), source, sha256)
    return to.read_bytes()


@pytest.mark.parametrize("content", [b"", b"content", b"x" * 300_000], ids=["empty", "small", "large"])
def test_a_copy_is_compared_with_the_checksum(tmp_path: Path, content: bytes) -> None:
    source = a_file(tmp_path / "source", content)
    assert copied(source, tmp_path / "copy", hashlib.sha256(content).hexdigest()) == content


def test_a_copy_of_something_else_is_refused(tmp_path: Path) -> None:
    source = a_file(tmp_path / "source", b"spoilt")
    with pytest.raises(NotAsReceived, match="has the checksum"):
        copied(source, tmp_path / "copy", hashlib.sha256(b"content").hexdigest())
    assert open_files(tmp_path) == []


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAsReceived):
        copied(str(tmp_path / "pipe"), tmp_path / "copy", hashlib.sha256(b"content").hexdigest())


# Syncing a directory


def test_a_directory_is_synced_and_closed(tmp_path: Path) -> None:
    with noted_syncs() as synced:
        fsync_directory(str(tmp_path))
    assert synced == [str(tmp_path)]
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP], ids=errno.errorcode.get)
def test_a_file_system_that_can_t_sync_directories_is_no_error(tmp_path: Path, number: int) -> None:
    with failing(tmp_path, "fsync", 1, an_error(number)) as disk:
        fsync_directory(str(tmp_path))
    assert disk.seen == 1
    assert open_files(tmp_path) == []


def test_a_directory_that_could_not_be_synced_is_an_error(tmp_path: Path) -> None:
    with failing(tmp_path, "fsync", 1, an_error(errno.EIO)), pytest.raises(OSError, match="Input/output"):
        fsync_directory(str(tmp_path))
    assert open_files(tmp_path) == []


def test_only_a_directory_is_synced(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        fsync_directory(a_file(tmp_path / "file"))


# Removing a file


@pytest.mark.parametrize("unlink", [unlink_if_there, try_unlink])
def test_a_file_is_removed_once(tmp_path: Path, unlink: Callable[[str], object]) -> None:
    path = a_file(tmp_path / "file")
    assert [unlink(path), unlink(path)] in ([None, None], [True, True])
    assert os.listdir(tmp_path) == []


def test_a_file_that_can_t_be_removed(tmp_path: Path) -> None:
    path = a_file(tmp_path / "file")
    with failing(tmp_path, "unlink", 1, an_error(errno.EIO)), pytest.raises(OSError, match="Input/output"):
        unlink_if_there(path)
    with failing(tmp_path, "unlink", 1, an_error(errno.EIO)):
        assert not try_unlink(path)
    assert os.listdir(tmp_path) == ["file"]


# Hard links


def test_a_second_name(tmp_path: Path) -> None:
    path = a_file(tmp_path / "file")
    assert try_hard_link(path, str(tmp_path / "second"))
    assert os.path.samefile(path, tmp_path / "second")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK], ids=errno.errorcode.get)
def test_no_second_name_is_possible(tmp_path: Path, number: int) -> None:
    path = a_file(tmp_path / "file")
    with failing(tmp_path, "link", 1, an_error(number)):
        assert not try_hard_link(path, str(tmp_path / "second"))


def test_a_second_name_that_is_taken(tmp_path: Path) -> None:
    path, second = a_file(tmp_path / "file"), a_file(tmp_path / "second", b"other")
    with pytest.raises(FileExistsError):
        try_hard_link(path, second)
    assert Path(second).read_bytes() == b"other"


def test_a_second_name_that_failed(tmp_path: Path) -> None:
    path = a_file(tmp_path / "file")
    with failing(tmp_path, "link", 1, an_error(errno.EIO)), pytest.raises(OSError, match="Input/output"):
        try_hard_link(path, str(tmp_path / "second"))


# Removing a directory


@pytest.fixture
def tree(tmp_path: Path) -> str:
    (tmp_path / "tree" / "below").mkdir(parents=True)
    a_file(tmp_path / "tree" / "below" / "file")
    a_file(tmp_path / "tree" / "file")
    a_file(tmp_path / "outside")
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside")
    return str(tmp_path / "tree")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which takes any time."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


@pytest.mark.parametrize("remove", [remove_tree, remove_any])
def test_a_directory_is_removed_with_all_that_is_in_it(
    tmp_path: Path, tree: str, pauses: list[float], remove: Callable[[str], object]
) -> None:
    remove(tree)
    remove(tree)
    assert os.listdir(tmp_path) == ["outside"]
    assert (tmp_path / "outside").read_bytes() == b"content"


def test_a_directory_with_an_open_file_is_tried_again(tree: str, pauses: list[float]) -> None:
    """As NFS and FUSE have it, until they hear that the file was closed."""
    os.unlink(f"{tree}/link")
    with failing(Path(tree), "rmdir", 1, an_error(errno.ENOTEMPTY)) as disk:
        remove_tree(tree)
    assert not os.path.exists(tree)
    assert (disk.seen, len(pauses)) == (2, 2)


def test_a_directory_whose_file_stays_open_is_an_error(tree: str, pauses: list[float]) -> None:
    def still_open(seen: int, name: str, do: Callable[[], object]) -> None:
        raise an_error(errno.EBUSY)

    with watched(Path(tree), ["rmdir"], still_open), pytest.raises(OSError, match="busy"):
        remove_tree(tree)
    assert (pauses[0], pauses) == (0.0, sorted(pauses))
    assert sum(pauses) < 0.5


def test_what_can_t_be_removed_is_not_waited_for(tree: str, pauses: list[float]) -> None:
    with failing(Path(tree), "rmdir", 1, an_error(errno.EIO)), pytest.raises(OSError, match="Input/output"):
        remove_tree(tree)
    assert pauses == [0.0]
    assert os.path.isdir(tree)


def test_a_file_or_a_symlink_is_removed_like_a_directory(tmp_path: Path, tree: str) -> None:
    (tmp_path / "link").symlink_to(tree)
    for path in (tmp_path / "link", tmp_path / "outside", tmp_path / "absent"):
        remove_any(str(path))
    assert os.listdir(tmp_path) == ["tree"]
    assert sorted(os.listdir(tree)) == ["below", "file", "link"]


# Locks


def test_a_lock_excludes_others(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with locked(path, fcntl.LOCK_EX):
        with pytest.raises(BlockingIOError), locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise AssertionError
        with pytest.raises(BlockingIOError), locked(path, fcntl.LOCK_SH | fcntl.LOCK_NB):
            raise AssertionError
    with locked(path, fcntl.LOCK_SH), locked(path, fcntl.LOCK_SH | fcntl.LOCK_NB):
        pass
    assert open_files(tmp_path) == []


def test_a_lock_ends_with_an_error_in_its_block(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with pytest.raises(ZeroDivisionError), locked(path, fcntl.LOCK_EX):
        raise ZeroDivisionError
    with locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
        pass


def test_a_lock_file_is_made_for_its_owner_if_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(FileNotFoundError), locked(str(path), fcntl.LOCK_EX, create=False):
        raise AssertionError
    assert not path.exists()
    with locked(str(path), fcntl.LOCK_EX):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL], ids=lambda number: errno.errorcode[number]
)
def test_a_file_system_without_locks(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, how: int) -> None:
        raise an_error(number)

    monkeypatch.setattr(fcntl, "flock", flock)
    with (tmp_path / "lock").open("wb") as file:
        assert not lock(file.fileno(), fcntl.LOCK_EX)
    with locked(str(tmp_path / "lock"), fcntl.LOCK_EX):
        pass


def test_what_is_no_lock_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("wb") as file:
        assert lock(file.fileno(), fcntl.LOCK_EX)
        fd = file.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        lock(fd, fcntl.LOCK_EX)
