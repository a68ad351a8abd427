"""
The staging directory of this process in one store: the files of a crash are there while the crash is not kept yet.

C{<root>/staging/<host>-<pid>-<random>/} belongs to one process, which holds a lock in it. The raw crash in it is the
intent record of its crash: while C{<id>.json} is there, the crash is not kept, and whatever of it is already in its
place is removed by a sweep if the process dies.
"""

import fcntl
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path

from attrs import frozen

from collectord.storage.files import new_process_name
from collectord.storage.filesystem.capabilities import ALL, needed
from collectord.storage.filesystem.fsops import (
    copy_verified,
    create_file,
    fsync_directory,
    lock,
    locked,
    remove_any,
    remove_tree,
    unlink_if_there,
    write_all,
)
from collectord.storage.filesystem.identity import StoreIdentity
from collectord.storage.filesystem.peers import Peers

_STAGING_ID = re.compile(r"[A-Za-z0-9._-]{1,255}-[0-9]+-[0-9a-f]{8}")


@frozen(kw_only=True)
class Modes:
    """The permissions of the files and directories that a store makes."""

    directory: int = 0o700
    file: int = 0o600


class StagingDirectory:
    """
    The staging directory of this process in one store. All of it blocks.

    @param root: of the store.
    @param identity: of the store; None: the caller knows that the right store is at C{root}.
    @ivar area: the directory that holds the staging directories of all processes.
    @ivar path: of this one.
    @ivar staging_id: its name, which no other process on any host has.
    @ivar peers: the other processes that stage here.
    @ivar capabilities: what the file system can do, once it was probed.
    """

    def __init__(self, root: str, modes: Modes, identity: StoreIdentity | None = None) -> None:
        self.root = root
        self._modes = modes
        self._identity = identity
        self._lock: int | None = None
        self._made_once = False
        self._to_sync: set[str] = set()  # directories with new entries
        self.area = f"{root}/staging"
        self.staging_id = new_process_name()
        self.path = f"{self.area}/{self.staging_id}"
        self.peers = Peers(self.area, self.staging_id)
        self.capabilities = ALL

    def make(self) -> None:
        """
        Make the directory and what is missing above it, durably, and take the lock. Later calls repair what is gone.

        Without an identity, later calls do not make L{area}: if it is missing, its file system went away.

        @raise OSError: the directory can't be used.
        """
        root_was_there = os.path.isdir(self.root)
        if self._identity is not None:
            self._identity.confirm(is_same=self._is_locked)
        if not self._made_once or (self._identity is not None and not os.path.isdir(self.area)):
            self._make_area(root_was_there)
        is_new = not self._is_locked()
        if is_new:
            with self.no_sweep():
                with suppress(FileExistsError):
                    self.make_directory(self.path)
                self._take_lock()
            self.peers.look_at_mount()
            self._to_sync.add(self.area)
        if self._identity is not None:
            self._identity.mark()
            if is_new:
                self._refuse_made_in_other(self._identity)
        with needed("syncs of directories", "fsync"):
            for directory in sorted(self._to_sync):
                fsync_directory(directory)
        self._to_sync.clear()
        self._made_once = True

    def _make_area(self, root_was_there: bool) -> None:
        """Make what is missing. A root that was there a moment ago has gone away, and is not made again."""
        for parent in Path(self.root).absolute().parents:
            self._to_sync.add(str(parent))
            if parent.is_dir():
                break
        if not root_was_there:
            Path(self.root).parent.mkdir(parents=True, exist_ok=True)
        for directory in [self.area] if root_was_there else [self.root, self.area]:
            with suppress(FileExistsError):
                self.make_directory(directory)
        self._to_sync.add(self.root)

    def _refuse_made_in_other(self, identity: StoreIdentity) -> None:
        """The file system may have gone away after it was confirmed. Then our lock is in what is there instead."""
        try:
            identity.refuse_other()
        except OSError:
            with suppress(OSError):
                self.remove()
            raise

    def _is_locked(self) -> bool:
        # The path may lead to another file than the one we locked: somebody removed that, or the file system was
        # mounted again.
        try:
            return self._lock is not None and os.path.samestat(os.fstat(self._lock), os.stat(f"{self.path}/lock"))
        except OSError:
            return False

    def _take_lock(self) -> None:
        fd = os.open(f"{self.path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.peers.locks = lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB) and self._lock_excludes()
        except BaseException:
            os.close(fd)
            raise
        old, self._lock = self._lock, fd
        if old is not None:
            os.close(old)

    def _lock_excludes(self) -> bool:
        """Whether a second descriptor of the lock file is kept off, as it should be."""
        try:
            with locked(f"{self.path}/lock", fcntl.LOCK_EX | fcntl.LOCK_NB, create=False):
                return False
        except BlockingIOError:
            return True

    def no_sweep(self) -> AbstractContextManager[None]:
        """
        Let nobody sweep for the length of a C{with} block.

        A directory that is just being made has no lock yet, and one that is being removed has none any more: both would
        look as if their process were dead.
        """
        return locked(f"{self.area}/lock", fcntl.LOCK_EX)

    def refuse_other(self) -> None:
        """
        Refuse to go on if another store than the confirmed one is at the root.

        @raise OSError: another store is there, or nobody knows which.
        """
        if self._identity is not None and not self._is_locked():
            self._identity.refuse_other()
            os.stat(self.path)

    def is_shared_by(self, staging_id: str) -> bool:
        """Whether the store whose process has that C{staging_id} is this one, whatever path leads to it there."""
        return bool(_STAGING_ID.fullmatch(staging_id)) and os.path.exists(f"{self.area}/{staging_id}/lock")

    def remove(self) -> None:
        """
        Remove the directory and what is left in it; nothing is staged here afterwards.

        @raise OSError: some of it is left, for the next sweep.
        """
        fd, self._lock = self._lock, None
        if fd is None:
            return
        with ExitStack() as held:
            held.callback(os.close, fd)
            with self.no_sweep():
                remove_all_but_lock(self.path)
                held.close()  # a network file system would keep an open file in its directory
                remove_tree(self.path)

    def intent_record(self, crash_id: str) -> str:
        """The path of the intent record that says that this process has a crash in hand."""
        return f"{self.path}/{crash_id}.json"

    def mark_new(self, link: str, target: str) -> None:
        """
        Say that a crash is new: by a symlink to C{target}, or without symlinks by a small file with that text.

        @param link: the path of the symlink or file.
        @raise FileExistsError: the crash was marked before.
        @raise OSError: the file may be incomplete.
        """
        if self.capabilities.symlinks:
            os.symlink(target, link)
            return
        fd = create_file(link, self._modes.file)
        try:
            self._write(fd, [target.encode()])
            os.fsync(fd)
        finally:
            os.close(fd)

    def make_directory(self, path: str) -> None:
        """
        Make a directory with the configured permissions, whatever the umask is.

        @raise FileExistsError: it is there.
        """
        os.mkdir(path, self._modes.directory)
        if self._modes.directory & 0o077 and self.capabilities.modes:
            os.chmod(path, self._modes.directory)

    def write(self, name: str, pieces: Sequence[bytes]) -> tuple[str, int]:
        """
        Write a new file.

        @param name: of the file in this directory.
        @return: its path, and a descriptor that the caller syncs and closes.
        @raise FileExistsError: there is a file of that name.
        @raise OSError: nothing of the new file is left.
        """
        return self._create(name, lambda fd: self._write(fd, pieces))

    def copy(self, name: str, path: str, sha256: str) -> tuple[str, int]:
        """
        Write a new file with the content of the one at C{path}. The checksum is that of the bytes that were written, so
        it does not matter whether somebody changes the original meanwhile.

        @param sha256: what the content has to be.
        @return: as L{write} has it.

        @raise NotAsReceived: the content has another checksum; nothing of the new file is left.
        @raise OSError: as L{write} has it.
        """

        def fill(fd: int) -> None:
            self._set_mode(fd)
            copy_verified(fd, path, sha256)

        return self._create(name, fill)

    def _create(self, name: str, fill: Callable[[int], None]) -> tuple[str, int]:
        path = f"{self.path}/{name}"
        fd = create_file(path, self._modes.file)
        try:
            fill(fd)
        except BaseException:
            try:
                os.close(fd)
            finally:
                unlink_if_there(path)
            raise
        return path, fd

    def append(self, name: str, pieces: Sequence[bytes], *, first: bool, sync: bool) -> None:
        """
        Add to the end of a file.

        @param first: create the file, which must not exist.
        @param sync: return only once the file is durable. Otherwise whoever holds it open syncs it later.

        @raise OSError: the file is of no use any more.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if first else 0)
        fd = os.open(f"{self.path}/{name}", flags, self._modes.file)
        try:
            self._write(fd, pieces)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def _write(self, fd: int, pieces: Sequence[bytes]) -> None:
        self._set_mode(fd)
        write_all(fd, pieces)

    def _set_mode(self, fd: int) -> None:
        """The umask may have taken permissions from the group or the others; it never takes any from the owner."""
        if self._modes.file & 0o077 and self.capabilities.modes:
            os.fchmod(fd, self._modes.file)


def remove_all_but_lock(directory: str) -> None:
    """
    Remove everything in a staging directory but its lock file.

    @raise OSError: some of it is still there.
    """
    for name in os.listdir(directory):
        if name != "lock":
            remove_any(f"{directory}/{name}")
