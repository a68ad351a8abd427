"""
The destination C{type = "filesystem"}: crashes stay on a file system, where other programs look for them.
"""

from collections.abc import Mapping
from typing import Any, Literal

from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.stores import Files
from collectord.storage.filesystem.known import KnownStores
from collectord.storage.filesystem.staging import Modes
from collectord.storage.filesystem.store import FilesystemCrashStorage, FilesystemSettings


class FilesystemDestination(PluginSettings, Files):
    """The settings of the destination: crashes are kept in Socorro's layout below C{root}."""

    verify: Literal[True] = True  # no crash can be saved before the check has made the staging directory


def filesystem_store(
    files: Files, timeout: float, reactor: Any, others: Mapping[str, str], state_directory: str, threads: int = 1
) -> FilesystemCrashStorage:
    """
    Make the store that the settings describe.

    @param timeout: how many seconds it may take to keep a crash.
    @param others: the names of the stores that it must not be, by their staging ids.
    @param state_directory: where stores are remembered; empty: nowhere.
    @param threads: how many threads spill dumps.
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


def _filesystem(settings: FilesystemDestination, context: PluginContext) -> FilesystemCrashStorage:
    return filesystem_store(settings, settings.timeout_s, context.reactor, context.stores, context.state_directory)


FILESYSTEM = PluginType(FilesystemDestination, _filesystem)
"""The entry point C{filesystem} of collectord's own destinations (in C{setup.py}) names this."""
