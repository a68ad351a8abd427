"""
The destination C{type = "filesystem"}: crashes stay on a file system, where others look for them.
"""

from collections.abc import Mapping
from typing import Any, Literal

from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.schema import Files
from collectord.storage.filesystem.known import KnownStores
from collectord.storage.filesystem.staging import Modes
from collectord.storage.filesystem.store import FilesystemCrashStorage, FilesystemSettings


class FilesystemDestination(PluginSettings, Files):
    """Socorro's layout below C{root}."""

    verify: Literal[True] = True  # nothing is saved before the staging area is there


def filesystem_store(
    files: Files, timeout: float, reactor: Any, others: Mapping[str, str], state_directory: str, threads: int = 1
) -> FilesystemCrashStorage:
    """
    The store that the settings describe.

    @param timeout: seconds that a crash may take.
    @param others: the names, by their staging ids, of stores that it must not be.
    @param state_directory: where stores are remembered; empty: nowhere.
    @param threads: that spill dumps.
    """
    return FilesystemCrashStorage(
        FilesystemSettings(
            root=str(files.root.absolute()),
            min_free_bytes=files.min_free_bytes,
            whole_filesystem=files.sync == "filesystem",
            threads=threads,
            timeout=timeout,
            modes=Modes(directory=files.directory_mode, file=files.file_mode),
            others=others,
            known=KnownStores(state_directory) if state_directory else None,
            require_mount=files.require_mount,
        ),
        reactor.callFromThread,
        reactor,
    )


def _filesystem(settings: FilesystemDestination, daemon: PluginContext) -> FilesystemCrashStorage:
    return filesystem_store(settings, settings.timeout_s, daemon.reactor, daemon.stores, daemon.state_directory)


FILESYSTEM = PluginType(FilesystemDestination, _filesystem)
