"""
A look at the state directory when the daemon starts: what it can't protect against is logged.

The daemon remembers its stores there, so that it notices at a start that a store's file system is not mounted.
"""

import os
from collections.abc import Sequence

from twisted.logger import Logger

from collectord.concurrency.threadpool import ThreadRunner
from collectord.settings.schema import Settings
from collectord.storage.filesystem.devices import mount_of_its_own
from collectord.storage.filesystem.known import KnownStores, state_directory

_log = Logger()


async def check_state(settings: Settings, roots: Sequence[str], in_thread: ThreadRunner) -> None:
    """
    Log a warning if nothing can be remembered, or if what is remembered of a store is on the same file system as it.

    To be called on the reactor thread.

    @param roots: the directories of the stores.
    """
    known = KnownStores(state_directory(settings.state.directory, os.environ))

    def roots_beside_it() -> Sequence[str]:
        known.refuse_unwritable()
        mount = mount_of_its_own(known.directory)
        return [root for root in roots if mount and mount_of_its_own(root) == mount]

    try:
        for root in await in_thread(roots_beside_it):
            _log.warn(
                "{store} and what is remembered of it ({state}) are on one file system: without it nobody knows "
                "that it is not mounted; see [state] directory, and require_mount",
                store=root,
                state=known.directory,
            )
    except OSError as e:
        _log.warn(
            "{state} can't be written ({why}): stores are not remembered, and one that comes up without its file "
            "system is not noticed at a start; see [state] directory",
            state=known.directory,
            why=e,
        )
