"""
Whether the store at a root is still the same: its file system may have gone away, or another one may be mounted
instead.

A store has a mark, C{<root>/collectord-store.json}, with an id that no other store has. What is remembered outside of
the root (L{KnownStores}) says which mark belongs there. While a process runs, it compares numbers of the file system,
which costs next to nothing. An open directory would do as well, but then nobody could unmount the file system.
"""

import errno
import json
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from attrs import frozen
from twisted.logger import Logger

from collectord.concurrency.waiting import LimitedWait
from collectord.storage.filesystem.devices import device_of, family_of, refuse_unmounted
from collectord.storage.filesystem.fsops import FULL
from collectord.storage.filesystem.known import KnownStore, KnownStores, write_durably
from collectord.storage.filesystem.mounted import mount_of
from collectord.storage.filesystem.sync import File, Sync

MARK = "collectord-store.json"
"""The name of the mark. It is not the name of a day, so programs that read the layout ignore it."""

_NUMBERED = ("ext", "btrfs", "tmpfs")
"""The kinds of file systems whose numbers no other file system has, while they are mounted and soon after."""
_DAY_S = 24 * 3600.0
_MEMORY_S = 2.0
"""Seconds that the state directory may take. It may be on another machine, and no store must hang because it does."""

Numbers = tuple[int, int, int]
"""Device and inode of a root, and the number of its file system."""


class StoreIdentity:
    """
    What this process knows of the store at one root. All of it blocks; any thread may call it.

    @param known: the stores that are remembered outside of their roots; None: nothing is remembered.
    @param require_mount: as L{refuse_unmounted} has it.
    """

    _log = Logger()

    def __init__(self, root: str, known: KnownStores | None = None, require_mount: bool | str = False) -> None:
        self._root = root
        self._known = known
        self._require_mount = require_mount
        self._in_time = LimitedWait(_MEMORY_S)
        self._seen: KnownStore | None = None
        self._numbers: Numbers | None = None
        self._is_remembered = False
        self._is_forgotten = False  # it could not be remembered, and that was logged

    def confirm(self, *, is_same: Callable[[], bool]) -> None:
        """
        Make sure that the root may be used: it is the same store as before, or a new one.

        @param is_same: returns whether the directory is surely the one that was confirmed before, whatever became of
            its mark.

        @raise OSError: it may not be used, and nothing may be written there; the text says why.
        """
        try:
            try:
                self._confirm(is_same)
            except InterruptedError:  # a new root may have been made meanwhile, for the state directory in it
                self._confirm(is_same)
        except OSError:
            self._numbers = None
            raise

    def _confirm(self, is_same: Callable[[], bool]) -> None:
        refuse_unmounted(self._root, self._require_mount)
        numbers = _numbers_of(self._root)
        same = is_same() or self._is_numbered(numbers)
        known = self._remembered(enough_to_have_seen=same)
        expected, found = known or self._seen, read_mark(self._root)
        device = "" if numbers is None else device_of(self._root)
        if _numbers_of(self._root) != numbers:  # the mark and the device may be those of another store
            raise InterruptedError(errno.EINTR, "its file system came or went just now")
        if expected is not None and found != expected.store_id and same:
            # Somebody removed the mark, or copied a backup of another store here.
            self._log.warn("{store}: its mark was removed or replaced; it is the same store still", store=self._root)
            found = found or self._mark_again(expected.store_id)
            self._is_remembered = False
        elif why := _difference(self._root, expected, found, device):
            raise OSError(errno.ESTALE, why)
        if found is not None:
            self._seen = KnownStore(root=self._root, store_id=found, device=device)
            _keep_young(f"{self._root}/{MARK}")
        if expected is not None:
            # A command may have made the host forget the store, though it is still used.
            self._is_remembered = self._is_remembered and known is not None and not self._is_forgotten
            self.remember()
        self._numbers = numbers

    def _mark_again(self, store_id: str) -> str:
        try:
            _write_mark(self._root, store_id)
        except OSError as e:
            if e.errno not in FULL:  # a full disk gets its mark later; crashes can still be moved out of it
                raise
        return store_id

    def _is_numbered(self, numbers: Numbers | None) -> bool:
        mount = mount_of(self._root)
        same = numbers is not None and numbers == self._numbers
        return same and mount is not None and family_of(mount.kind) in _NUMBERED

    def _remembered(self, *, enough_to_have_seen: bool = False) -> KnownStore | None:
        """
        What is remembered counts more than what this process saw: somebody may have adopted another store here.

        @param enough_to_have_seen: if that can't be read, what this process saw is enough.

        @raise OSError: it can't be read.
        """
        known = self._known
        if known is None:
            return None
        try:
            return self._in_time(lambda: known.get(self._root), known.directory)
        except OSError:
            if enough_to_have_seen and self._seen is not None:
                return None
            raise

    def mark(self) -> None:
        """
        Give the store a mark if it has none, durably. The root has to exist. A store that is full gets its mark later.

        @raise OSError: it may have none.
        """
        if self._seen is not None:
            return
        try:
            _write_mark(self._root, secrets.token_hex(16), first=True)
        except OSError as e:
            # Another process was faster, or the disk is full. Crashes can still be moved out of a full store.
            if e.errno not in (errno.EEXIST, *FULL):
                raise
        self.confirm(is_same=lambda: False)

    def remember(self) -> None:
        """
        Remember the store, because it keeps crashes now. If that is not possible, log it and go on; the next L{confirm}
        tries again.
        """
        known, seen = self._known, self._seen
        if self._is_remembered or known is None or seen is None:
            return
        self._is_remembered = True

        def write() -> None:
            if known.get(self._root) != seen:
                known.remember(seen)

        try:
            self._in_time(write, known.directory)
        except OSError as e:
            if not self._is_forgotten:
                self._log.warn(
                    "{store} is not remembered: {why} ({path})", store=self._root, why=e.strerror, path=e.filename
                )
            self._is_forgotten = True
        else:
            self._is_forgotten = False

    def refuse_other(self) -> None:
        """
        Refuse to go on if another store than the confirmed one is at the root.

        @raise OSError: another store is there, or nobody knows which.
        """
        if self._numbers is None or _numbers_of(self._root) != self._numbers:
            unknown = "it is not known whether this is the store that was here a moment ago"
            raise OSError(errno.ESTALE, self.problem() or unknown)

    def problem(self) -> str:
        """Why the root can't be used now, in words; empty if it can. Nothing is made or written."""
        try:
            refuse_unmounted(self._root, self._require_mount)
            expected, found = self._remembered() or self._seen, read_mark(self._root)
            return _difference(self._root, expected, found, "" if found is None else device_of(self._root))
        except OSError as e:
            return f"{e.strerror} ({e.filename})" if e.filename else str(e.strerror)


@frozen
class ConfirmedSync:
    """
    A sync that fails if nothing of it can be trusted, such as when another store is at the root by now. If it does not
    fail, the store is remembered before any crash in it is acknowledged.

    @ivar sync: the sync itself.
    @ivar refusals: each raises L{OSError} if what was synced is not to be trusted.
    @ivar remember: remembers the store.
    """

    sync: Sync
    refusals: Sequence[Callable[[], None]]
    remember: Callable[[], None]

    def __call__(self, files: Sequence[File], directories: Iterable[str], /) -> dict[str, OSError]:
        """As L{Sync}."""
        directories = set(directories)
        failed = self.sync(files, directories)
        try:
            for refuse in self.refusals:
                refuse()
        except OSError as e:
            return dict.fromkeys([*(path for path, _ in files), *directories], e) | failed
        if directories:
            self.remember()
        return failed


def read_mark(root: str) -> str | None:
    """
    Read the mark of the store at C{root}.

    @return: the id in it; empty if the mark is damaged, None if there is none.

    @raise OSError: it can't be read.
    """
    try:
        with open(f"{root}/{MARK}", "rb") as file:
            found = json.load(file)
        return str(found["store_id"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, LookupError, TypeError):
        return ""


def adopt(root: str, known: KnownStores) -> KnownStore:
    """
    Remember the store that is at C{root} now as the one that belongs there, durably. It gets a mark if it has none.

    @raise OSError: it may not be remembered.
    """
    store_id = read_mark(root)
    if not store_id:
        store_id = secrets.token_hex(16)
        _write_mark(root, store_id)
    store = KnownStore(root=root, store_id=store_id, device=device_of(root))
    known.remember(store)
    return store


def _write_mark(root: str, store_id: str, *, first: bool = False) -> None:
    about = "a store of collectord; it tells this file system from others that may be mounted here"
    write_durably(f"{root}/{MARK}", {"store_id": store_id, "about": about}, first=first)


def _keep_young(path: str) -> None:
    """Renew the time of a file once a day, so that a program that removes old files (systemd-tmpfiles) leaves it."""
    with suppress(OSError):  # the file system may be full, or the file may belong to another user
        if time.time() - os.stat(path).st_mtime > _DAY_S:
            os.utime(path)


def _difference(root: str, expected: KnownStore | None, found: str | None, device: str) -> str:
    """What is wrong with a store, in words, and what to do about it; empty: nothing is wrong."""
    if found == "":
        why = f"its mark {MARK} is damaged"
    elif expected is None:
        return ""
    elif found is None and not os.path.isdir(root):
        return f"there is no directory at {root}; is its file system mounted?"
    elif found is None:
        why = f"its mark {MARK} is not there; is its file system mounted?"
    elif found != expected.store_id:
        why = "it bears the mark of another one"
    elif expected.device and device and device != expected.device:
        why = f"it lies on another file system: {device}, and not {expected.device}"
    else:
        return ""
    return (
        f"this is not the store that was here before ({why}): "
        f"if that is meant, run: collectord stores adopt {shlex.quote(root)}"
    )


def _numbers_of(root: str) -> Numbers | None:
    """The numbers of a root; None if it does not exist."""
    try:
        found = os.stat(root)
        return found.st_dev, found.st_ino, os.statvfs(root).f_fsid
    except FileNotFoundError:
        return None
