"""
The stores of the chain, made from the settings.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from collectord.concurrency.threadpool import ThreadRunner
from collectord.pressure import RoomGauge
from collectord.settings.schema import Settings
from collectord.storage.chain.backend import Backend
from collectord.storage.filesystem.destination import filesystem_store
from collectord.storage.filesystem.known import state_directory
from collectord.storage.filesystem.source import FilesystemCrashSource
from collectord.storage.filesystem.store import FilesystemCrashStorage
from collectord.storage.filesystem.unpublishedsource import UnpublishedSource

_NOW = partial(datetime.now, UTC)
_STEP_S = 60.0
"""Seconds that a source may take to read one crash, or to list one slot."""


def build_backends(settings: Settings, reactor: Any) -> tuple[Sequence[Backend], Mapping[str, str]]:
    """Make the stores of the chain, the primary first; also return their names, by their staging ids."""
    backends: list[Backend] = []
    names: dict[str, str] = {}
    state = state_directory(settings.state.directory, os.environ)
    for each in settings.storage:
        store = filesystem_store(each, each.timeout_s, reactor, dict(names), state, each.threads)
        backends.append(
            Backend(
                name=store.name,
                storage=store,
                staging=store,
                timeout=each.timeout_s,
                cautions=partial(getattr, store, "cautions"),
                quick_check=store.quick_check,
                room=RoomGauge(each.low_free_bytes, each.min_free_bytes),
                has=store.has,
                was_erased=store.was_erased,
                prepare=store.prepare,
                refuse_other=store.directory.refuse_other,
                source=partial(_source_of, store, reactor),
                unpublished=partial(_unpublished_of, store, reactor),
                waited=partial(getattr, store, "waited_s"),
            )
        )
        names[store.staging_id] = store.name
    return backends, names


def _source_of(store: FilesystemCrashStorage, reactor: Any, in_thread: ThreadRunner) -> FilesystemCrashSource:
    return FilesystemCrashSource(store.name, in_thread, reactor, _NOW, _STEP_S, store.prepare, store.directory)


def _unpublished_of(
    store: FilesystemCrashStorage, reactor: Any, publisher: str, in_thread: ThreadRunner
) -> UnpublishedSource:
    return UnpublishedSource(store.name, publisher, in_thread, reactor, _NOW, _STEP_S, store.prepare, store.directory)
