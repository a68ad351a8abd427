"""
Whether crashes can be kept in a store: its staging directory is made, what its file system can do is tried, and what
dead processes left is swept.
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from math import inf

from twisted.logger import Logger

from collectord.metrics import SWEEP_FAILURES
from collectord.storage.filesystem.access import refuse_unusable_today
from collectord.storage.filesystem.capabilities import Capabilities, probe, try_out
from collectord.storage.filesystem.fsops import FULL
from collectord.storage.filesystem.mounted import cautions_at, mount_of, unsynced_by_syncfs
from collectord.storage.filesystem.space import refuse_full
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.sweep import Swept, sweep
from collectord.storage.filesystem.sync import SyncFilesystem

_SWEEP_AGAIN_S = 60.0
"""How many seconds after a sweep that left something the next one comes: by then, open files may be closed."""

_NO_LOCKS = "no locks work here: what an unclean stop leaves is swept only after a day"
_NO_DIRECTORY_SYNC = "directories can't be synced here: a power cut may lose crashes that were acknowledged"


class StoreChecks:
    """
    The checks of one store. All of it blocks, and runs on one thread of its own, but for L{doubt} and L{refuse_full},
    which any thread may call.

    @param staging: the staging directory of this process in the store.
    @param whole: syncs the whole file system at once; None: each file is synced.
    @param min_free_bytes: with fewer free bytes the store counts as full.
    @param others: the names of the stores that this one must not be, by their staging ids.
    @param seconds: the time, in seconds since any moment.
    @ivar cautions: what this file system can't promise, in plain sentences; known once it was checked.
    """

    _log = Logger()

    def __init__(
        self,
        staging: StagingDirectory,
        whole: SyncFilesystem | None,
        min_free_bytes: int,
        others: Mapping[str, str],
        seconds: Callable[[], float],
    ) -> None:
        self._root = staging.root
        self._staging = staging
        self._whole = whole
        self._min_free_bytes = min_free_bytes
        self._others = others
        self._seconds = seconds
        self._capabilities: Capabilities | None = None
        self._is_doubted = True
        self._sweep_at = -inf
        self._reported: set[str] = set()  # failures of sweeps
        self.cautions: Sequence[str] = ()

    def doubt(self) -> None:
        """Something failed in the store, so the next check finds out again what its file system can do."""
        self._is_doubted = True

    def prepare(self) -> None:
        """
        Make the staging directory if it is missing, and see that this is no other store.

        @raise OSError: crashes can't be moved out of this store.
        """
        try:
            self._staging.make()
        except OSError as e:
            if e.errno not in FULL:
                raise
            self._sweep()  # what an unclean stop left may be what fills the disk
            self._staging.make()
        if self._whole is not None:
            self._whole.watch()
        self._refuse_itself()

    def _refuse_itself(self) -> None:
        """
        Refuse a store that is one of the others, found by another path.

        A crash that is moved from a store to the same store would be taken for there already, and then be removed. That
        two stores are one shows as soon as the other has its staging directory, so before anything is moved out of it.
        """
        for staging_id, name in self._others.items():
            if self._staging.is_shared_by(staging_id):
                raise OSError(errno.EINVAL, f"this is the store {name}, by another path")

    def refuse_full(self) -> int | None:
        """
        Refuse a store that is full, away, or one of the others.

        @return: how many bytes are free; None: nobody knows.

        @raise OSError: it is; the text says what.
        """
        self._staging.refuse_other()
        self._refuse_itself()
        return refuse_full(self._root, self._min_free_bytes)

    def quick_check(self) -> int | None:
        """
        Look whether the store is full, read-only or away. Unlike L{check} it writes nothing.

        @return: as L{refuse_full} has it.

        @raise OSError: it is; the text says what.
        """
        free = self.refuse_full()
        found = os.statvfs(self._staging.path)
        if found.f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        refuse_unusable_today(self._root)
        return free

    def check(self) -> int | None:
        """
        Prepare the store, sweep it if it is time to, and do there what keeping a crash does.

        @return: as L{refuse_full} has it.

        @raise OSError: no crash can be kept; the text says why.
        """
        try:
            return self._check()
        except BaseException:
            self.doubt()
            raise

    def _check(self) -> int | None:
        if self._is_doubted:
            self._caution()
        self.prepare()
        if self._seconds() >= self._sweep_at:
            self._sweep()
        free = self.refuse_full()
        refuse_unusable_today(self._root)
        if self._is_doubted:
            self._is_doubted = False
            self._probe()
        else:
            try_out(self._staging.path, self._staging.capabilities)
        return free

    def _probe(self) -> None:
        """Find out what the file system can do."""
        if self._whole is not None and (problem := unsynced_by_syncfs(mount_of(self._root))):
            raise OSError(errno.EINVAL, problem)
        found = probe(self._staging.path, self._capabilities)
        if found != self._capabilities and found.missing:
            self._log.info(
                "{store}: its file system has no {missing}; it does without",
                store=self._root,
                missing=", ".join(found.missing),
            )
        self._capabilities = self._staging.capabilities = found
        self._caution()

    def _caution(self) -> None:
        """Say what this file system can't promise, even if the store can't be used."""
        cautions = [*cautions_at(self._root)]
        if self._capabilities is not None and not self._capabilities.directory_sync:
            cautions.append(_NO_DIRECTORY_SYNC)
        if not self._staging.peers.locks:
            cautions.append(_NO_LOCKS)
        for caution in cautions:
            if caution not in self.cautions:
                self._log.warn("{store}: {caution}", store=self._root, caution=caution)
        self.cautions = cautions

    def _sweep(self) -> None:
        """Clear away what dead processes left. What can't be cleared away costs space, and no more."""
        try:
            swept = sweep(self._staging)
        except OSError as e:
            swept = Swept(0, [e])
        self._sweep_at = self._seconds() + _SWEEP_AGAIN_S if swept.failed else inf
        if swept.files:
            self._log.warn(
                "{store}: swept what an unclean stop left; files: {files}", store=self._root, files=swept.files
            )
        for crash_id in swept.crashes:
            self._log.info(
                "{crash_id}: what was left of it in {store} is removed: a process died before it had acknowledged the "
                "crash, or after it had moved it",
                crash_id=crash_id,
                store=self._root,
            )
        for error in swept.failed:
            self._report("what an unclean stop left could not be swept", error)

    def remove_staging(self) -> None:
        """Remove the staging directory: this process keeps nothing here any more."""
        if self._whole is not None:
            self._whole.close()
        try:
            self._staging.remove()
        except OSError as e:
            self._report("the staging directory could not be removed; the next start tries again", e)

    def _report(self, what: str, error: OSError) -> None:
        SWEEP_FAILURES.labels(self._root).inc()
        if (why := describe_error(self._root, error)) not in self._reported:
            self._reported.add(why)
            self._log.warn("{what}: {why}", what=what, why=why)


def describe_error(root: str, error: OSError) -> str:
    """What went wrong in the store at C{root}, in words for the operator."""
    what = error.strerror or str(error)
    path = error.filename if error.filename2 is None else error.filename2  # of a rename the new name
    where = "" if path in (None, root) else f" ({path})"
    return f"{root}: {what}{where}"
