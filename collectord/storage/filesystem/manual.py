"""
What a command needs that changes a store by hand, beside a daemon that may be running. All of it blocks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from collectord.errors import CollectordError
from collectord.storage.filesystem.capabilities import probe
from collectord.storage.filesystem.fsops import fsync_directory
from collectord.storage.filesystem.layout import QUARANTINE
from collectord.storage.filesystem.staging import Modes, StagingDirectory


class WrongUser(CollectordError):
    """The command runs as another user than the daemon; the text says which user can do it."""


@contextmanager
def staging_in(root: str, modes: Modes) -> Iterator[StagingDirectory]:
    """
    Give this process a staging directory in the store at C{root}, for the length of a C{with} block.

    @param modes: of the directories and files that are made.
    @raise WrongUser: the daemon could neither read nor remove what this user makes.
    @raise OSError: the store can't be used.
    """
    of_daemon = next((path for path in (f"{root}/{QUARANTINE}", f"{root}/staging") if os.path.isdir(path)), root)
    owner = os.stat(of_daemon).st_uid
    if os.geteuid() != owner:
        raise WrongUser(f"only the user of the daemon can do that: {of_daemon} belongs to uid {owner}")
    staging = StagingDirectory(root, modes)
    staging.make()
    staging.capabilities = probe(staging.path)
    try:
        yield staging
    finally:
        with suppress(OSError):  # the daemon sweeps it
            staging.remove()


def make_directories(directory: str, root: str, staging: StagingDirectory) -> None:
    """
    Make a directory below C{root} and what is missing above it, durably.

    The directories that are there are synced, too: whoever made them may have been cut off before that.

    @raise OSError: it may not be durable.
    """
    if directory == root:
        return
    make_directories(os.path.dirname(directory), root, staging)
    with suppress(FileExistsError):
        staging.make_directory(directory)
    fsync_directory(os.path.dirname(directory))
