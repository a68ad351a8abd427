"""
The staging area of a store: where files are while their crash is not yet kept.

C{<root>/staging/<host>-<pid>-<random>/}: one directory for each process, locked by it. What a process left behind when
it died is swept by the next one that starts. Its raw crashes are the journal: while C{<id>.json} lies here, the crash
is not kept, and whatever else of it was already put in place is a leftover.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol

from attrs import field, frozen

from collectord.crashid import is_crash_id
from collectord.storage.content import NotAsReceived, open_at_once
from collectord.storage.filesystem.capabilities import ALL
from collectord.storage.filesystem.fsops import FULL, fsync_directory, remove_any, remove_tree, unlink_if_there
from collectord.storage.filesystem.layout import place_at
from collectord.storage.filesystem.versions import version_of

_WRITE = 128 * 1024
"""Bytes of one system call, about: with more, Linux takes larger pages; they may be cold, and 5 times dearer."""

_VECTOR = 1024
"""Pieces that one system call takes (IOV_MAX)."""

_STAGING_ID = re.compile(r"[A-Za-z0-9._-]{1,255}-[0-9]+-[0-9a-f]{8}")

_FOREIGN_S = 24 * 3600.0
"""What another host left is swept only after so long: not every network file system shows its locks to everyone."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""How file systems say that they know no C{flock}: Lustre without C{-o flock}, NFS without its lock daemon."""


@frozen(kw_only=True)
class Modes:
    """Permissions of what a store makes."""

    directory: int = 0o700
    file: int = 0o600


@frozen
class Swept:
    """
    What became of what dead processes left behind.

    @ivar files: that were removed.
    @ivar failed: why some could not be; the next sweep tries again.
    @ivar crashes: ids of those of which something was in its place.
    """

    files: int
    failed: Sequence[OSError]
    crashes: Sequence[str] = field(factory=list)


class Identity(Protocol):
    """What a staging directory asks of L{collectord.storage.filesystem.identity.StoreIdentity}."""

    def confirm(self, *, is_same: Callable[[], bool]) -> None: ...

    def mark(self) -> None: ...

    def refuse_other(self) -> None: ...


class StagingDirectory:
    """
    The staging directory of this process in one store. All of it blocks.

    @param identity: of the store; None: whoever asks knows that it is the right one.
    @ivar path: of the directory.
    @ivar staging_id: its name: no other process has one of that name, wherever it lies.
    @ivar peers: the names of those of other processes, when they were looked at last.
    @ivar capabilities: of the file system, once it was probed.
    @ivar locks: whether a lock here keeps others off. Else age alone tells what is dead.
    """

    def __init__(self, root: str, modes: Modes, identity: Identity | None = None) -> None:
        self._root = root
        self._modes = modes
        self._identity = identity
        self._area = f"{root}/staging"
        self._lock: int | None = None
        self._made_once = False
        self._to_sync: set[str] = set()  # directories with new entries
        self.peers: list[str] = []
        self.capabilities = ALL
        self.locks = True
        self.staging_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.path = f"{self._area}/{self.staging_id}"

    def make(self) -> None:
        """
        Make what is missing, and hold the lock.

        Without an identity later calls make nothing above the staging area: where it went missing, a file system went
        away, and what is there instead must not be written to.

        @raise OSError: it can't be used.
        """
        if self._identity is not None:
            self._identity.confirm(is_same=self._is_locked)
        if not self._made_once or (self._identity is not None and not os.path.isdir(self._area)):
            self._make_root()
        is_new = not self._is_locked()
        if is_new:
            with self._no_sweep():
                with suppress(FileExistsError):
                    self.make_directory(self.path)
                self._take_lock()
            self._to_sync.add(self._area)
        if self._identity is not None:
            self._identity.mark()
            if is_new:
                self._refuse_made_in_other(self._identity)
        for directory in sorted(self._to_sync):
            fsync_directory(directory)
        self._to_sync.clear()
        self._made_once = True

    def refuse_other(self) -> None:
        """
        @raise OSError: what lies at the root is not the store that was confirmed, or nobody knows.
        """
        if self._identity is not None and not self._is_locked():
            self._identity.refuse_other()
            os.stat(self.path)

    def _refuse_made_in_other(self, identity: Identity) -> None:
        """The file system may have gone away after it was confirmed; then our lock is in what is there instead."""
        try:
            identity.refuse_other()
        except OSError:
            with suppress(OSError):
                self.remove()
            raise

    def is_shared_by(self, staging_id: str) -> bool:
        """Whether the store of that L{staging_id} has its staging area here, by whatever path."""
        return bool(_STAGING_ID.fullmatch(staging_id)) and os.path.exists(f"{self._area}/{staging_id}/lock")

    def refuse_contended(self, crash_id: str) -> None:
        """
        @raise OSError: another process is putting this crash in its place, or takes it away again.
        """
        self._refuse_contended_by(self.peers, crash_id)

    def _refuse_contended_by(self, peers: Sequence[str], crash_id: str, *, swept: bool = False) -> None:
        if peer := self._contender_among(peers, crash_id, swept=swept):
            raise OSError(errno.EBUSY, f"{peer} is just keeping it, too", crash_id)

    def _contender_among(
        self, peers: Sequence[str], crash_id: str, except_for: str = "", *, swept: bool = False
    ) -> str:
        """
        The staging directory of a living process that has this crash; empty: there is none, C{except_for} one.

        @param swept: a dead one may just be swept, which nobody sees where there are no locks.
        """
        for peer in peers:
            directory = f"{self._area}/{peer}"
            if peer == except_for or not os.path.lexists(f"{directory}/{crash_id}.json"):
                continue
            with suppress(FileNotFoundError):  # it is gone by now
                if not (self.locks or swept) or not self._owner_is_gone(directory):
                    return peer
        return ""

    @contextmanager
    def claimed(self, crash_id: str) -> Iterator[None]:
        """
        Meanwhile no process puts this crash in its place: it would take it for undecided here.

        @raise OSError: one is just doing so.
        """
        claim = self.intent_record(crash_id)
        _make_empty(claim)
        try:
            self._refuse_contended_by(self._list_peers(), crash_id)
            yield
        finally:
            unlink_if_there(claim)

    def take_out(self, crash_id: str, raw_crash: str, seen: tuple[int, ...] | None = None) -> None:
        """
        Take a raw crash out of its place, to here: from now on the crash is not kept, and whoever sweeps removes the
        rest of it. Without it nobody takes that rest for a removal of ours. Where the disk is full it is just removed.

        @param seen: its L{version_of} when it was read; None: whatever is there goes.

        @raise FileNotFoundError: it is not in its place.
        @raise OSError: it is, or may be, in its place still: another process has this crash in hand, or it is not as it
            was when it was read.
        """
        record = self.intent_record(crash_id)
        try:
            claimed = self._claim(crash_id, raw_crash)
        except FileNotFoundError as e:
            if os.path.lexists(raw_crash):
                raise OSError(errno.EIO, "the staging directory is gone", self.path) from e
            raise
        try:
            # From here on nobody else puts it there, or is told that it is there. Who has begun before is seen now.
            self._refuse_contended_by(self._list_peers(), crash_id, swept=True)
            if seen is not None and version_of(raw_crash) != seen:
                raise OSError(errno.EBUSY, "it has changed since it was read: somebody counts on it", crash_id)
            if claimed == "empty":
                os.rename(raw_crash, record)
            else:
                os.unlink(raw_crash)
        except BaseException:
            if claimed != "full":
                unlink_if_there(record)
            raise

    def _claim(self, crash_id: str, raw_crash: str) -> Literal["linked", "empty", "full"]:
        """
        Let other processes see that this one has a crash in hand: by a second name of its raw crash; where there are
        none, by an empty file; where the disk is full, they can't.
        """
        record = self.intent_record(crash_id)
        try:
            os.link(raw_crash, record)
        except FileNotFoundError:
            raise
        except OSError as e:
            if os.path.lexists(record):
                raise OSError(errno.EBUSY, "somebody keeps it once more just now", crash_id) from e
            if e.errno in FULL:
                return "full"
        else:
            return "linked"
        _make_empty(record)
        return "empty"

    def intent_record(self, crash_id: str) -> str:
        """Where the raw crash is that L{take_out} took."""
        return f"{self.path}/{crash_id}.json"

    def refresh_peers(self) -> None:
        """See who else stages here."""
        self.peers = self._list_peers()

    def _list_peers(self) -> list[str]:
        # Only the committing thread remembers them: a list that another thread made before its own would be too old.
        return [name for name in os.listdir(self._area) if name not in ("lock", self.staging_id)]

    def remove(self) -> None:
        """
        Nothing is staged here any more.

        The lock is closed before its directory goes, or a network file system would keep it there. Meanwhile no sweep
        takes the directory for a dead process's.

        @raise OSError: some of it is left, for the next sweep.
        """
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with ExitStack() as held:
            held.callback(os.close, lock)
            with self._no_sweep():
                _empty(self.path)
                held.close()
                remove_tree(self.path)

    def _make_root(self) -> None:
        for parent in Path(self._root).absolute().parents:
            self._to_sync.add(str(parent))
            if parent.is_dir():
                break
        Path(self._root).parent.mkdir(parents=True, exist_ok=True)
        for directory in (self._root, self._area):
            with suppress(FileExistsError):
                self.make_directory(directory)
        self._to_sync.add(self._root)

    def _is_locked(self) -> bool:
        # Not where the lock file was removed, or the file system was mounted anew.
        try:
            return self._lock is not None and os.path.samestat(os.fstat(self._lock), os.stat(f"{self.path}/lock"))
        except OSError:
            return False

    def _take_lock(self) -> None:
        lock = os.open(f"{self.path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.locks = _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB) and self._lock_excludes()
        except BaseException:
            os.close(lock)
            raise
        old, self._lock = self._lock, lock
        if old is not None:
            os.close(old)

    def _lock_excludes(self) -> bool:
        try:
            with _locked(f"{self.path}/lock", fcntl.LOCK_EX | fcntl.LOCK_NB, create=False):
                return False
        except BlockingIOError:
            return True

    def mark_new(self, link: str, target: str) -> None:
        """
        Say that a crash is new: by a symlink to where it is, or where there are none, by a small file that says so.

        @raise FileExistsError: that was said before.
        @raise OSError: it may be said by halves.
        """
        if self.capabilities.symlinks:
            os.symlink(target, link)
            return
        fd = os.open(link, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._modes.file)
        try:
            self._fill(fd, [target.encode()])
            os.fsync(fd)
        finally:
            os.close(fd)

    def make_directory(self, path: str) -> None:
        """C{mkdir} with the right mode, whatever the umask."""
        os.mkdir(path, self._modes.directory)
        if self._modes.directory & 0o077 and self.capabilities.modes:
            os.chmod(path, self._modes.directory)

    def write(self, name: str, pieces: Sequence[bytes]) -> tuple[str, int]:
        """
        A new file.

        @return: its path, and a descriptor to sync and close.

        @raise OSError: nothing of it is left.
        """
        return self._new(name, lambda fd: self._fill(fd, pieces))

    def copy(self, name: str, path: str, sha256: str) -> tuple[str, int]:
        """
        As L{write}, of the file at C{path}. What is compared is what is written, whatever becomes of that file.

        @raise NotAsReceived: it has another checksum.
        """
        return self._new(name, lambda fd: self._fill_from(fd, path, sha256))

    def _new(self, name: str, fill: Callable[[int], None]) -> tuple[str, int]:
        path = f"{self.path}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._modes.file)
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
        Add to a file, new where C{first}.

        @param sync: it is durable then; else whoever holds it open syncs it later.

        @raise OSError: it is of no use any more.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if first else 0)
        fd = os.open(f"{self.path}/{name}", flags, self._modes.file)
        try:
            self._fill(fd, pieces)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def _fill(self, fd: int, pieces: Sequence[bytes]) -> None:
        if self._modes.file & 0o077 and self.capabilities.modes:
            os.fchmod(fd, self._modes.file)  # no umask takes from the owner, but from the others
        for vector in _vectors(pieces):
            left = sum(map(len, vector)) - os.writev(fd, vector)
            if left:  # rare: a signal, or a disk that is nearly full
                view = memoryview(b"".join(vector))[-left:]
                while view:
                    view = view[os.write(fd, view) :]

    def _fill_from(self, fd: int, path: str, sha256: str) -> None:
        digest = hashlib.sha256()
        self._fill(fd, [])
        with open(path, "rb", buffering=0, opener=open_at_once) as source:
            while piece := source.read(_WRITE):
                digest.update(piece)
                self._fill(fd, [piece])
        if digest.hexdigest() != sha256:
            raise NotAsReceived(path, digest.hexdigest(), sha256)

    def sweep(self) -> Swept:
        """
        Remove what dead processes left behind; what can't be removed harms nobody.

        @raise OSError: the staging area can't be read.
        """
        files, failed, crashes = 0, [], list[str]()
        with self._no_sweep():
            for entry in os.scandir(self._area):
                if entry.path != self.path and entry.is_dir(follow_symlinks=False):
                    try:
                        files += self._sweep(entry.path, crashes) if self._owner_is_gone(entry.path) else 0
                    except OSError as e:
                        failed.append(e)
        return Swept(files, failed, crashes)

    def _no_sweep(self) -> AbstractContextManager[None]:
        # Without it a directory that is just being made, and not locked yet, would look dead.
        return _locked(f"{self._area}/lock", fcntl.LOCK_EX)

    def _sweep(self, directory: str, crashes: list[str]) -> int:
        peers = self._list_peers()
        with _locked(f"{directory}/lock", fcntl.LOCK_EX):  # so it does not look dead: who has such a crash is refused
            files = [file for file in os.listdir(directory) if file != "lock"]
            for file in files:
                crash_id = file.removesuffix(".json")
                if file.endswith(".json") and is_crash_id(crash_id):
                    here = os.path.lexists(self.intent_record(crash_id))
                    if here or self._contender_among(peers, crash_id, os.path.basename(directory)):
                        raise OSError(errno.EBUSY, "somebody keeps it just now", crash_id)  # the next sweep
                    if self._sweep_crash(crash_id, f"{directory}/{file}"):
                        crashes.append(crash_id)
            _empty(directory)
        remove_tree(directory)
        return len(files)

    def _owner_is_gone(self, directory: str) -> bool:
        """Whether the process of that staging directory is gone."""
        ours = os.path.basename(directory).rsplit("-", 2)[0] == socket.gethostname()
        old = time.time() - os.stat(directory).st_mtime >= _FOREIGN_S
        if not self.locks or not (ours or old):
            return old
        try:
            # A directory that its owner is just removing gets no lock file anew.
            with _locked(f"{directory}/lock", fcntl.LOCK_EX | fcntl.LOCK_NB, create=False):
                return True
        except BlockingIOError:
            return False
        except FileNotFoundError:
            return True

    def _sweep_crash(self, crash_id: str, raw_crash: str) -> bool:
        """Whether something of it was in its place."""
        try:
            with open(raw_crash, encoding="utf-8") as f:
                place = place_at(self._root, crash_id, json.load(f)["submitted_timestamp"])
        except (ValueError, LookupError, TypeError, AttributeError):
            return False  # cut off: then it was not durable yet, and nothing was put in place
        if os.path.exists(place.raw_crash):
            return False
        found = [place.link] if os.path.lexists(place.link) else []
        with suppress(FileNotFoundError):
            names = [name for name in os.listdir(place.name_dir) if name.startswith(f"{crash_id}.")]
            found[:0] = [f"{place.name_dir}/{name}" for name in names if name.endswith(".dump")]
        for path in found:
            unlink_if_there(path)
        return bool(found)


def _vectors(pieces: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """C{pieces} in groups for one system call each."""
    vector: list[bytes] = []
    size = 0
    for piece in pieces:
        if vector and (size + len(piece) > _WRITE or len(vector) == _VECTOR):
            yield vector
            vector, size = [], 0
        vector.append(piece)
        size += len(piece)
    if vector:
        yield vector


def _lock(fd: int, how: int) -> bool:
    """
    @return: False: there are no locks on this file system.
    @raise BlockingIOError: somebody else has it.
    """
    try:
        fcntl.flock(fd, how)
    except OSError as e:
        if e.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _make_empty(path: str) -> None:
    """No sweep heeds an empty raw crash."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _empty(directory: str) -> None:
    """Remove all but the lock."""
    for name in os.listdir(directory):
        if name != "lock":
            remove_any(f"{directory}/{name}")


@contextmanager
def _locked(path: str, how: int, *, create: bool = True) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        _lock(fd, how)
        yield
    finally:
        os.close(fd)
