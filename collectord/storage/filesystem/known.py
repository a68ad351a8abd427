"""
The stores in which daemons of this host have kept crashes, remembered outside of the stores. All of it blocks.

There is one small file for each root: C{<state directory>/stores/<hash of the root>.json}.
"""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress

from attrs import asdict, frozen

from collectord.storage.filesystem.capabilities import needed
from collectord.storage.filesystem.fsops import create_file, fsync_directory, unlink_if_there

_STORES = "stores"


@frozen(kw_only=True)
class KnownStore:
    """
    What is remembered of one store.

    @ivar root: its absolute path.
    @ivar store_id: the id in its mark.
    @ivar device: its file system, as L{collectord.storage.filesystem.devices.device_of} names it.
    """

    root: str
    store_id: str
    device: str


class KnownStores:
    """
    The stores that are remembered in a state directory, which several daemons may share.

    @ivar directory: the state directory.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def _path(self, root: str) -> str:
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        return f"{self.directory}/{_STORES}/{name}.json"

    def get(self, root: str) -> KnownStore | None:
        """
        The store that belongs at C{root}; None if no crash was ever kept there.

        @raise OSError: what is remembered can't be read.
        """
        return _read(self._path(root))

    def all(self) -> list[KnownStore]:
        """
        Every store that is remembered, sorted by root.

        @raise OSError: what is remembered can't be read.
        """
        directory = f"{self.directory}/{_STORES}"
        with suppress(FileNotFoundError, NotADirectoryError):
            names = [name for name in os.listdir(directory) if name.endswith(".json")]
            found = [store for name in names if (store := _read(f"{directory}/{name}")) is not None]
            return sorted(found, key=lambda store: store.root)
        return []

    def remember(self, store: KnownStore) -> None:
        """
        Remember C{store} as the one that belongs at its root, durably.

        @raise OSError: it may not be remembered.
        """
        self._make()
        path = self._path(store.root)
        write_durably(path, asdict(store))

    def forget(self, root: str) -> bool:
        """
        Forget the store that belongs at C{root}, durably.

        @return: whether there was one.

        @raise OSError: it may still be remembered.
        """
        try:
            os.unlink(self._path(root))
        except FileNotFoundError:
            return False
        fsync_directory(f"{self.directory}/{_STORES}")
        return True

    def refuse_unwritable(self) -> None:
        """
        Refuse a state directory that can't be written to.

        @raise OSError: nothing can be remembered here.
        """
        self._make()
        path = f"{self.directory}/{_STORES}/.{secrets.token_hex(8)}"
        with open(path, "xb"):
            os.unlink(path)

    def _make(self) -> None:
        _make_private(f"{self.directory}/{_STORES}")


def _make_private(directory: str) -> None:
    """
    Make a directory and what is missing above it, durably. Only the owner may enter them: the root of a store may be
    one of them.
    """
    if os.path.isdir(directory):
        return
    above = os.path.dirname(directory)
    _make_private(above)
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    with suppress(PermissionError):  # a directory that we may not read was not made here
        fsync_directory(above)


def state_directory(configured: os.PathLike[str] | None, environment: Mapping[str, str]) -> str:
    """
    The directory in which a daemon remembers what has to outlive it.

    @param configured: the one in the settings; None: the one that systemd gives the service, or else the user's own.
    @param environment: the environment variables.
    """
    if configured is not None:
        return os.path.abspath(configured)
    if of_systemd := environment.get("STATE_DIRECTORY", "").partition(":")[0]:
        return os.path.abspath(of_systemd)
    home = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.abspath(f"{home if os.path.isabs(home) else '/var/lib'}/collectord")  # not every user has a home


def write_durably(path: str, value: Mapping[str, object], *, first: bool = False) -> None:
    """
    Write a small JSON file durably, whole or not at all. It belongs to the owner of its directory.

    @param first: refuse to replace a file.

    @raise FileExistsError: C{first}, and the file exists.
    @raise OSError: the file may not be there.
    """
    directory = os.path.dirname(path)
    new = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with open(create_file(new), "w") as file:
            json.dump(value, file, indent=1)
            file.write("\n")
            file.flush()
            owner = os.stat(directory)
            if os.geteuid() == 0 and owner.st_uid != 0:  # the daemon has to read what root repairs
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            with needed("syncs of files", "fsync"):
                os.fsync(file.fileno())
        if not first or not _link_if_possible(new, path):
            os.rename(new, path)
    except BaseException:
        unlink_if_there(new)
        raise
    unlink_if_there(new)
    with needed("syncs of directories", "fsync"):
        fsync_directory(directory)


def _link_if_possible(new: str, path: str) -> bool:
    """
    Make C{path} a hard link to the file at C{new}, if that is possible.

    Any error says that it is not: this is done before it was found out what the file system can do.

    @return: False if it is not, and nothing has that name.

    @raise FileExistsError: C{path} exists.
    """
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        return False
    return True


def _read(path: str) -> KnownStore | None:
    try:
        with open(path, "rb") as file:
            found = json.load(file)
        return KnownStore(**{name: str(found[name]) for name in ("root", "store_id", "device")})
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None  # whoever may not read it may not write it either, and that was logged at the start
    except (ValueError, LookupError, TypeError) as e:
        raise OSError(errno.EIO, "what is remembered of the store can't be read", path) from e
