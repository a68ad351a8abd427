"""
What every destination promises, of those that need no server.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor

from collectord.interfaces import ICrashStorage
from collectord.plugins import DESTINATIONS, PluginContext, make_plugin
from collectord.testing import Destination, DestinationContract, Kept
from collectord.testing.memory import MemoryCrashStorage
from tests.support.disk import stored_crashes
from tests.unit.storage.stores import bytes_of

pytestmark = pytest.mark.timeout(120)


def made(table: Mapping[str, Any]) -> ICrashStorage:
    storage: ICrashStorage = make_plugin(DESTINATIONS, table, PluginContext(reactor), "here").instance
    return storage


def in_directory(root: Path) -> Destination:
    table = {"type": "filesystem", "root": str(root), "min_free_bytes": 0}

    async def kept(crash_id: str) -> Kept | None:
        crash = stored_crashes(root).get(crash_id)
        return None if crash is None else Kept(crash.raw_crash, crash.dumps)

    below_a_file = root.with_name("no directory")
    below_a_file.touch()
    unreachable = table | {"root": str(below_a_file / "x")}
    return Destination(partial(made, table), kept, streams=False, unreachable=partial(made, unreachable))


class TestMemory(DestinationContract):
    @pytest.fixture
    def destination(self) -> Destination:
        store = MemoryCrashStorage()

        async def kept(crash_id: str) -> Kept | None:
            crash = store.crashes.get(crash_id)
            if crash is None:
                return None
            return Kept(crash.raw_crash, {dump.name: await bytes_of(dump.content) for dump in crash.dumps})

        return Destination(lambda: store, kept, streams=False)


class TestFilesystem(DestinationContract):
    @pytest.fixture
    def destination(self, tmp_path: Path) -> Destination:
        return in_directory(tmp_path / "crashes")


class TestFallback(DestinationContract):
    @pytest.fixture
    def destination(self, tmp_path: Path) -> Destination:
        (tmp_path / "file").write_text("no directory can be made below it")
        tables = [
            {"type": "filesystem", "root": str(root), "min_free_bytes": 0}
            for root in (tmp_path / "file" / "crashes", tmp_path / "crashes")
        ]
        return evolve(in_directory(tmp_path / "crashes"), make=partial(made, {"type": "fallback", "of": tables}))
