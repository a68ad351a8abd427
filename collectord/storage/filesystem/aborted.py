"""
Noticing that ext4 has aborted its journal.

While it does, after an error from which it can't recover, a sync may succeed for what is not on the disk and never will
be: the transaction was given up, so there is none to wait for. See C{findings/ext4_fsync_succeeds_after_an_abort.sh}.
XFS does the same while it shuts down, but there the question which store is at the root
(L{collectord.storage.filesystem.identity.StoreIdentity.refuse_other}) fails, too.
"""

import os

from collectord.storage.filesystem.mounted import mount_of

_KINDS = ("ext3", "ext4", "overlay")
"""An overlay may lie on an ext4."""


class AbortedJournal:
    """
    Tells after a sync whether the journal was aborted by then. It blocks, and is used by one thread at a time.

    @param directory: in the store, in which this process may change anything.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._may_be: bool | None = None  # known once the store is there

    def refuse(self) -> None:
        """
        Fail if the journal was aborted, or might have been.

        @raise OSError: nothing that was synced just now is trusted.
        """
        if self._may_be is None:
            mount = mount_of(self._directory)
            self._may_be = mount is not None and mount.kind in _KINDS
        if self._may_be:
            # The first change makes ext4 look at its journal, but does not fail itself; the second one does.
            os.utime(self._directory)
            os.utime(self._directory)
