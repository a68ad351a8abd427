"""
The other processes that have a staging directory in the same store, and which crashes they have in hand.

A process has a crash in hand while an intent record of it, C{<id>.json}, is in its staging directory: it is keeping
that crash, removing it, or putting it aside. Nobody else may touch the crash then. If the process died, its records
only say what a sweep has to clear away.
"""

import errno
import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress

from collectord.storage.files import is_of_this_host
from collectord.storage.filesystem.fsops import locked, see_changes
from collectord.storage.filesystem.mounted import mount_of

_FOREIGN_S = 24 * 3600.0
"""After how many seconds the staging directory of another host counts as left behind. Its lock alone does not tell: not
every network file system shows the locks of one host to the others."""


class CrashContended(OSError):
    """
    Another process has this crash in hand, or has just changed it. Whoever wanted it tries again later.

    @param why: in words.
    @param crash: its id, or the path of its raw crash.
    """

    def __init__(self, why: str, crash: str) -> None:
        super().__init__(errno.EBUSY, why, crash)


class Peers:
    """
    The other processes that stage in the same store. All of it blocks.

    @param area: the directory that holds the staging directories of all processes.
    @param own: the name of the staging directory of this process.
    @ivar names: the names of the staging directories of the others, as of the last L{refresh}. Only one thread may
        refresh and use it, in a daemon the committing one: a list from before its own work began would be too old.
    @ivar locks: whether a lock here keeps other processes off. Where it does not, only age tells what was left behind.
    """

    def __init__(self, area: str, own: str) -> None:
        self._area = area
        self._own = own
        self.names: Sequence[str] = ()
        self.locks = True
        self._kind = ""

    def look_at_mount(self) -> None:
        """Find out which kind of file system this is, once the staging directory of this process is made."""
        mount = mount_of(self._area)
        self._kind = "" if mount is None else mount.kind

    def refresh(self) -> None:
        """
        Look again who else stages here.

        @raise OSError: nobody knows who does.
        """
        self.names = self.listed()

    def listed(self) -> list[str]:
        """
        The names of the staging directories of the others, as they are now. Any thread may ask.

        What is in them is seen as it is now, too.
        """
        if self._kind == "fuse.sshfs":  # it lists from memory for twenty seconds, unless this host changes something
            with suppress(OSError):
                os.utime(self._area)
        names = [name for name in os.listdir(self._area) if name not in ("lock", self._own)]
        if self._kind in ("nfs", "nfs4"):
            for name in names:
                see_changes(f"{self._area}/{name}")
        return names

    def refuse_contended(self, crash_id: str) -> None:
        """
        Refuse a crash that one of L{names} has in hand.

        @raise CrashContended: one has.
        """
        self._refuse(self.names, crash_id)

    def refuse_contended_now(self, crash_id: str, *, may_be_swept: bool = False) -> None:
        """
        As L{refuse_contended}, but look again who else stages here. Any thread may ask.

        @param may_be_swept: as L{contender} has it.
        @raise CrashContended: another process has the crash in hand.
        """
        self._refuse(self.listed(), crash_id, may_be_swept=may_be_swept)

    def _refuse(self, names: Sequence[str], crash_id: str, *, may_be_swept: bool = False) -> None:
        if name := self.contender(names, crash_id, may_be_swept=may_be_swept):
            raise CrashContended(f"{name} has this crash in hand, too", crash_id)

    def contender(
        self, names: Sequence[str], crash_id: str, except_for: str = "", *, may_be_swept: bool = False
    ) -> str:
        """
        The first of C{names}, but C{except_for}, whose process lives and has this crash in hand; empty if none has.

        @param may_be_swept: it does not matter if a sweep is clearing away what a dead process left of this crash.
            Without locks nobody can see such a sweep; so by default even the record of a dead process counts there.
        """
        for name in names:
            directory = f"{self._area}/{name}"
            if name == except_for or not os.path.lexists(f"{directory}/{crash_id}.json"):
                continue
            with suppress(FileNotFoundError):  # the directory is gone by now
                if not (self.locks or may_be_swept) or not self.owner_is_gone(directory):
                    return name
        return ""

    def owner_is_gone(self, directory: str) -> bool:
        """
        Whether the process that had this staging directory ended without removing it.

        @raise OSError: nobody knows.
        """
        is_ours = is_of_this_host(os.path.basename(directory))
        is_old = time.time() - os.stat(directory).st_mtime >= _FOREIGN_S
        if not self.locks or not (is_ours or is_old):
            return is_old
        try:
            # Create no lock file: the owner may be removing this directory right now.
            with locked(f"{directory}/lock", fcntl.LOCK_EX | fcntl.LOCK_NB, create=False):
                return True
        except BlockingIOError:
            return False
        except FileNotFoundError:
            return True
