"""
Crashes in Azure Blob Storage: a server that checks signatures and checksums, and what goes wrong on the way to it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from collectord.errors import StorageError
from collectord.plugins import PluginContext
from collectord.storage.objects.azure import AZURE
from collectord.storage.objects.bucket import BucketCrashStorage
from collectord.testing import Destination, DestinationContract
from collectord.testing.destinations import Kept
from tests.support.azurite import ACCOUNT, Azurite
from tests.support.buckets import MINIDUMP_KEY, RAW_CRASH_KEY, erases, kept_in, on_disk
from tests.support.fakes3 import Asked, FakeS3, Said, relayed_to
from tests.unit.storage.stores import error_of, in_reactor, logged_failures, make_crash

__all__ = ["logged_failures"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

MIB = 1024 * 1024


def new_storage(server: Azurite, **settings: Any) -> BucketCrashStorage:
    from twisted.internet import reactor

    storage: BucketCrashStorage = AZURE.make(server.settings(**settings), PluginContext(reactor))
    return storage


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Azurite]:
    with Azurite(tmp_path / "azurite.log") as server:
        yield server


class TestAzure(DestinationContract):
    @pytest.fixture
    def destination(self, server: Azurite) -> Destination:
        async def kept(crash_id: str) -> Kept | None:
            return kept_in(server.objects(crash_id), crash_id)

        return Destination(
            lambda: new_storage(server),
            kept,
            streams=False,
            unreachable=lambda: new_storage(server, container="absent"),
        )


@in_reactor
async def test_a_crash_is_erased(server: Azurite) -> None:
    await erases(new_storage(server), server.objects)


@pytest.mark.parametrize("size", [100, 21 * MIB + 7], ids=["whole", "in blocks"])
@in_reactor
async def test_killed_in_the_middle_and_back(server: Azurite, tmp_path: Path, size: int) -> None:
    """And the same storage goes on with it."""
    content, asked_for = os.urandom(size), list[str]()
    crash = on_disk(tmp_path / "dump", content)

    def relay(asked: Asked) -> Said:
        asked_for.append(asked.path)
        if len(asked_for) == 2:
            server.kill()
        return relayed_to(server.port, asked)

    with FakeS3(instead=relay) as between:
        storage = new_storage(server, endpoint_url=f"{between.url}/{ACCOUNT}")
        assert isinstance(await error_of(storage.save(crash)), StorageError)
        server.start()
        assert server.objects() == {}
        await storage.save(crash)
        await storage.close()
    assert server.objects()[MINIDUMP_KEY] == content
    assert RAW_CRASH_KEY in server.objects()


@pytest.mark.parametrize("size", [100, 21 * MIB + 7], ids=["whole", "in blocks"])
@in_reactor
async def test_stopped_in_the_middle_and_goes_on(server: Azurite, tmp_path: Path, size: int) -> None:
    content, asked_for = os.urandom(size), list[str]()
    crash = on_disk(tmp_path / "dump", content)

    def relay(asked: Asked) -> Said:
        asked_for.append(asked.path)
        if len(asked_for) == 2:
            server.freeze()
        return relayed_to(server.port, asked)

    with FakeS3(instead=relay) as between:
        storage = new_storage(server, endpoint_url=f"{between.url}/{ACCOUNT}", read_timeout_s=1.0)
        assert str(await error_of(storage.save(crash))).endswith("did not answer within 1 s")
        server.thaw()
        await storage.save(crash)
        await storage.close()
    assert server.objects()[MINIDUMP_KEY] == content
    assert RAW_CRASH_KEY in server.objects()


@pytest.mark.parametrize("size", [100, 17 * MIB], ids=["whole", "in blocks"])
@in_reactor
async def test_what_is_changed_on_the_way_is_not_kept(server: Azurite, tmp_path: Path, size: int) -> None:
    crash = on_disk(tmp_path / "dump", os.urandom(size))

    def relay(asked: Asked) -> Said:
        if asked.method == "PUT" and MINIDUMP_KEY in asked.path:
            asked = evolve(asked, body=asked.body[:-1] + bytes([asked.body[-1] ^ 1]))
        return relayed_to(server.port, asked)

    with FakeS3(instead=relay) as between:
        storage = new_storage(server, endpoint_url=f"{between.url}/{ACCOUNT}")
        assert isinstance(await error_of(storage.save(crash)), StorageError)
        await storage.close()
    assert server.objects() == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"account_key": "AAAA"}, "container crashes: AuthorizationFailure Server failed to authenticate the request."),
        ({"container": "nowhere"}, "container nowhere: ContainerNotFound The specified container does not exist."),
    ],
    ids=["key", "container"],
)
@in_reactor
async def test_refused(server: Azurite, settings: dict[str, str], message: str) -> None:
    storage = new_storage(server, **settings)
    for error in (await error_of(storage.save(make_crash())), await error_of(storage.check())):
        assert isinstance(error, StorageError)
        assert str(error).startswith(message)
    assert server.objects() == {}
    await storage.close()
