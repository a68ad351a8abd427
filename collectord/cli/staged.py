"""
Crashes that a subcommand changes in their stores while a daemon may be running there.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from collectord.cli.shared import tracked
from collectord.settings.loading import load_settings
from collectord.storage.filesystem.finder import FoundCrash
from collectord.storage.filesystem.manual import staging_in
from collectord.storage.filesystem.staging import Modes, StagingDirectory


def with_staging(
    found: Sequence[FoundCrash], modes: Mapping[str, Modes], what: str
) -> Iterator[tuple[FoundCrash, StagingDirectory]]:
    """
    Yield each crash with a staging directory in its store, store by store, and show the progress.

    @param modes: the permissions of what is made there, by the root of the store.
    @param what: what is being done, as the progress bar shows it.
    @raise OSError: the staging directory can't be made.
    """
    for root in dict.fromkeys(crash.root for crash in found):
        crashes = [crash for crash in found if crash.root == root]
        with staging_in(root, modes.get(root, Modes())) as staging:
            for crash in tracked(crashes, what, len(crashes)):
                yield crash, staging


def modes_of_stores(config: Path | None, stores: Sequence[str]) -> Mapping[str, Modes]:
    """
    Return the permissions of files and directories in each store of the settings, by its root.

    @param stores: what C{--store} names. If it names any the settings do not count, and there are none.
    @raise ConfigError: the settings can't be used.
    """
    if stores:
        return {}
    return {
        os.path.abspath(store.root): Modes(directory=store.directory_mode, file=store.file_mode)
        for store in load_settings(config).storage
    }
