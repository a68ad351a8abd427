"""
What every destination promises, of those that need no server.
"""

from pathlib import Path

import pytest
from attrs import evolve
from twisted.internet import reactor

from collectord.plugins import DESTINATIONS, PluginContext, make_plugin
from collectord.testing import Destination, DestinationContract, Kept
from collectord.testing.memory import MemoryCrashStorage
from tests.support.disk import stored_crashes
from tests.unit.storage.stores import bytes_of

pytestmark = pytest.mark.timeout(120)


def in_directory(root: Path) -> Destination:
    table = {"type": "filesystem", "root": str(root), "min_free_bytes": 0}
    plugin = make_plugin(DESTINATIONS, table, PluginContext(reactor), "here")

    async def kept(crash_id: str) -> Kept | None:
        crash = stored_crashes(root).get(crash_id)
        return None if crash is None else Kept(crash.raw_crash, crash.dumps)

    below_a_file = root.with_name("no directory")
    below_a_file.touch()
    unreachable = make_plugin(DESTINATIONS, table | {"root": str(below_a_file / "x")}, PluginContext(reactor), "here")
    return Destination(plugin.instance, kept, streams=False, unreachable=unreachable.instance)


class TestMemory(DestinationContract):
    @pytest.fixture
    def destination(self) -> Destination:
        store = MemoryCrashStorage()

        async def kept(crash_id: str) -> Kept | None:
            crash = store.crashes.get(crash_id)
            if crash is None:
                return None
            return Kept(crash.raw_crash, {dump.name: await bytes_of(dump.content) for dump in crash.dumps})

        return Destination(store, kept, streams=False)


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
        plugin = make_plugin(DESTINATIONS, {"type": "fallback", "of": tables}, PluginContext(reactor), "here")
        return evolve(in_directory(tmp_path / "crashes"), storage=plugin.instance)
