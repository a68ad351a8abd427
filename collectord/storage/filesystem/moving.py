"""
Claims of crashes that are being moved: of several processes that move crashes out of one store, one moves each.

A claim is an empty file in the staging directory of the process, which is made before the process looks for those of
others. So of two processes that want the same crash, at least one sees the other and leaves it alone for now. Nothing
depends on that but that nothing is delivered twice: a removal has L{collectord.storage.filesystem.claims}. All of it
blocks.
"""

import os
from contextlib import suppress

from collectord.storage.files import is_of_this_host
from collectord.storage.filesystem.fsops import FULL, unlink_if_there
from collectord.storage.filesystem.staging import StagingDirectory

_AWAY_S = 300.0
"""
The staging directory of a host that lives changes every ten seconds, with the checks of its store. If that of another
host has not changed for so many seconds, that host is gone.
"""


class MoveClaims:
    """
    The claims of one process in one store.

    @param staging: the staging directory of the process.
    @param kind: what is done with the crashes; claims of different kinds have nothing to do with each other.
    """

    def __init__(self, staging: StagingDirectory, kind: str) -> None:
        self._staging = staging
        self._kind = kind

    def take(self, crash_id: str) -> bool:
        """
        Claim a crash, and return whether no other process has claimed it. This process may have it already.

        @raise OSError: nobody knows.
        """
        claim = self._path(self._staging.path, crash_id)
        try:
            os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as e:
            if e.errno not in FULL:
                raise
            # The store is full, so crashes have to be moved out of it even without a claim. One that is moved twice
            # does less harm than one that is not moved.
        if any(self._is_claimed_in(f"{self._staging.area}/{name}", crash_id) for name in self._staging.peers.listed()):
            unlink_if_there(claim)
            return False
        return True

    def drop(self, crash_id: str) -> None:
        """
        Give up the claim of a crash, if there is one.

        @raise OSError: others may believe that it is still there.
        """
        unlink_if_there(self._path(self._staging.path, crash_id))

    def _path(self, directory: str, crash_id: str) -> str:
        return f"{directory}/{crash_id}.{self._kind}"

    def _is_claimed_in(self, directory: str, crash_id: str) -> bool:
        if not os.path.lexists(self._path(directory, crash_id)):
            return False
        with suppress(FileNotFoundError):  # the directory is gone by now
            return not self._staging.peers.owner_is_gone(directory) and not self._is_away(directory)
        return False

    def _is_away(self, directory: str) -> bool:
        """Whether a directory belongs to a host that is gone, by the clock of the file system alone."""
        if is_of_this_host(os.path.basename(directory)) and self._staging.peers.locks:
            return False
        return os.stat(self._staging.path).st_mtime - os.stat(directory).st_mtime >= _AWAY_S
