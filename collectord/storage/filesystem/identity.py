"""
Whether what lies at a root is the store that it was: a file system may be away, or another one may be there instead.

A store bears a mark, C{<root>/collectord-store.json}, with an id that no other store has. What is remembered outside of
the root (L{KnownStores}) says which mark belongs there. While a process runs it compares numbers, which cost next to
nothing: an open directory would tell, too, but nobody could unmount its file system any more.
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

from collectord.storage.filesystem.devices import device_of, family_of, refuse_unmounted
from collectord.storage.filesystem.fsops import FULL
from collectord.storage.filesystem.known import KnownStore, KnownStores, write_durably
from collectord.storage.filesystem.mounted import mount_of
from collectord.storage.filesystem.sync import File, Sync

MARK = "collectord-store.json"
"""The name of the file in the root; no day, so that readers of the layout pass by."""

_NUMBERED = ("ext", "btrfs", "tmpfs")
"""File systems that have numbers of their own: no other one has the same while they are mounted, or right after."""
_DAY_S = 24 * 3600.0

Numbers = tuple[int, int, int]
"""Device and inode of a root, and the number of its file system."""


class StoreIdentity:
    """
    What a process knows of the store at one root. All of it blocks; any thread may ask.

    @param known: what is remembered outside of the root; None: nothing is.
    @param require_mount: as L{refuse_unmounted} has it.
    """

    _log = Logger()

    def __init__(self, root: str, known: KnownStores | None = None, require_mount: bool | str = False) -> None:
        self._root = root
        self._known = known
        self._require_mount = require_mount
        self._seen: KnownStore | None = None
        self._numbers: Numbers | None = None
        self._is_remembered = False
        self._is_forgotten = False  # it could not be remembered, and that was told

    def confirm(self, *, is_same: Callable[[], bool]) -> None:
        """
        Return where the root may be used: it is the store that it was, or a new one.

        @param is_same: whether the directory now surely is the one that was confirmed before, whatever has become of
            its mark.

        @raise OSError: it may not, and nothing must be written there; the text says why.
        """
        try:
            self._confirm(is_same)
        except OSError:
            self._numbers = None
            raise

    def _confirm(self, is_same: Callable[[], bool]) -> None:
        refuse_unmounted(self._root, self._require_mount)
        numbers = _numbers_of(self._root)
        known = self._remembered()
        expected, found = known or self._seen, read_mark(self._root)
        device = "" if numbers is None else device_of(self._root)
        same = is_same() or self._is_numbered(numbers)
        if _numbers_of(self._root) != numbers:  # then the mark and the device may be another one's
            raise OSError(errno.ESTALE, "its file system came or went just now")
        if expected is not None and found != expected.store_id and same:
            # Somebody removed it, or copied a backup of another store here.
            self._log.warn("{store}: its mark was removed or replaced; it is the same store still", store=self._root)
            found = found or self._mark_again(expected.store_id)
            self._is_remembered = False
        elif why := _difference(self._root, expected, found, device):
            raise OSError(errno.ESTALE, why)
        if found is not None:
            self._seen = KnownStore(root=self._root, store_id=found, device=device)
            _keep_young(f"{self._root}/{MARK}")
        if expected is not None:
            # Somebody may have forgotten it since, and it is used still.
            self._is_remembered = self._is_remembered and known is not None and not self._is_forgotten
            self.remember()
        self._numbers = numbers

    def _mark_again(self, store_id: str) -> str:
        try:
            _write_mark(self._root, store_id)
        except OSError as e:
            if e.errno not in FULL:  # then later; what is here can still be moved
                raise
        return store_id

    def _is_numbered(self, numbers: Numbers | None) -> bool:
        mount = mount_of(self._root)
        same = numbers is not None and numbers == self._numbers
        return same and mount is not None and family_of(mount.kind) in _NUMBERED

    def _remembered(self) -> KnownStore | None:
        """It goes before what was seen: somebody may have adopted what is here now."""
        return self._known.get(self._root) if self._known is not None else None

    def mark(self) -> None:
        """
        Give a store its mark if it has none, durably; one that is full gets it later. Its root is there.

        @raise OSError: it may not have one.
        """
        if self._seen is not None:
            return
        try:
            _write_mark(self._root, secrets.token_hex(16), first=True)
        except OSError as e:
            # Another process was first, or nothing can be kept here now; what is here can still be moved.
            if e.errno not in (errno.EEXIST, *FULL):
                raise
        self.confirm(is_same=lambda: False)

    def remember(self) -> None:
        """
        Remember the store, for it keeps crashes; where that is not possible, say so, and go on.

        The next L{confirm} tries again.
        """
        if self._is_remembered or self._known is None or self._seen is None:
            return
        self._is_remembered = True
        try:
            if self._known.get(self._root) != self._seen:
                self._known.remember(self._seen)
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
        @raise OSError: what lies at the root is not what was confirmed last.
        """
        if self._numbers is None or _numbers_of(self._root) != self._numbers:
            unknown = "it is not known whether this is the store that was here a moment ago"
            raise OSError(errno.ESTALE, self.problem() or unknown)

    def problem(self) -> str:
        """Why the root can't be used now, in words; empty where it can. Nothing is made or written."""
        try:
            refuse_unmounted(self._root, self._require_mount)
            expected, found = self._remembered() or self._seen, read_mark(self._root)
            return _difference(self._root, expected, found, "" if found is None else device_of(self._root))
        except OSError as e:
            return f"{e.strerror} ({e.filename})" if e.filename else str(e.strerror)


@frozen
class ConfirmedSync:
    """
    A sync that counts only where the store still is the one that was written to; it is remembered before any crash
    in it is acknowledged.

    @ivar refuse_other: raises OSError where it is another.
    """

    sync: Sync
    refuse_other: Callable[[], None]
    remember: Callable[[], None]

    def __call__(self, files: Sequence[File], directories: Iterable[str], /) -> dict[str, OSError]:
        """As L{Sync}."""
        directories = set(directories)
        failed = self.sync(files, directories)
        try:
            self.refuse_other()
        except OSError as e:
            return dict.fromkeys([*(path for path, _ in files), *directories], e) | failed
        if directories:
            self.remember()
        return failed


def read_mark(root: str) -> str | None:
    """
    The id of the store at C{root}; empty where its mark is damaged, None where it has none.

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
    Let what lies at C{root} now be the store that belongs there, durably: it gets a mark if it has none.

    @raise OSError: it may not be.
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
    """Whoever clears old files away (systemd-tmpfiles) is to leave this one."""
    with suppress(OSError):  # on a file system that is full, or of another user
        if time.time() - os.stat(path).st_mtime > _DAY_S:
            os.utime(path)


def _difference(root: str, expected: KnownStore | None, found: str | None, device: str) -> str:
    """What is wrong, in words, with the way out; empty: nothing is."""
    if found == "":
        why = f"its mark {MARK} is damaged"
    elif expected is None:
        return ""
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
    """None: there is no root."""
    try:
        found = os.stat(root)
        return found.st_dev, found.st_ino, os.statvfs(root).f_fsid
    except FileNotFoundError:
        return None
