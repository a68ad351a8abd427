"""
Ids that are still to be published: durable before their crash goes, and there until they are published.
"""

import errno
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from collectord.errors import StorageError
from collectord.interfaces import ICrashSource
from collectord.model import Crash, NewCrash
from collectord.storage.filesystem.source import FilesystemCrashSource
from collectord.storage.filesystem.unpublished import count_unpublished, directory_of
from collectord.storage.filesystem.unpublishedsource import UnpublishedSource
from tests.support.cases import for_each
from tests.support.disk import stored_crashes
from tests.unit.intake.parts import result_of
from tests.unit.storage.filesystem.test_filesystem_in_hand import ready
from tests.unit.storage.stores import (
    CRASH_ID,
    NEIGHBOUR,
    SLOT,
    Rig,
    at_once,
    error_of,
    failing,
    make_crash,
    make_rig,
    noted_syncs,
)

QUEUE = "rabbitmq socorro.standard"


@define
class Desk:
    """A store with a crash in it, and what is to be published of it."""

    rig: Rig
    time: datetime = datetime(2016, 6, 22, 15, 19, 50, tzinfo=UTC)
    source: FilesystemCrashSource = field(init=False)
    new: NewCrash = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.new = NewCrash(CRASH_ID, f"{self.rig.root}/{SLOT}")
        self.rig.save(self.rig.transaction(make_crash()))
        self.source = FilesystemCrashSource(
            str(self.rig.root), at_once, Clock(), lambda: self.time, 60.0, ready, self.rig.staging
        )

    def load(self) -> Crash:
        crash = result_of(self.source.load(self.new))
        assert crash is not None
        return crash

    def remember(self, publisher: str = QUEUE) -> None:
        result_of(self.source.remember(self.new, self.load(), publisher))

    def unpublished(self, publisher: str = QUEUE, rig: Rig | None = None) -> UnpublishedSource:
        staging = (rig or self.rig).staging
        return UnpublishedSource(
            str(self.rig.root), publisher, at_once, Clock(), lambda: self.time, 60.0, ready, staging
        )


@pytest.fixture
def desk(rig: Rig) -> Desk:
    return Desk(rig)


async def listed(source: UnpublishedSource) -> list[NewCrash]:
    return [new async for batch in source.new_crashes() for new in batch]


def ids(source: UnpublishedSource) -> list[str]:
    return [new.crash_id for new in result_of(listed(source))]


def test_interface(desk: Desk) -> None:
    verifyObject(ICrashSource, desk.unpublished())


def test_nothing_is_made_while_all_is_published(desk: Desk) -> None:
    assert ids(desk.unpublished()) == []
    assert not (desk.rig.root / "unpublished").exists()
    assert count_unpublished(str(desk.rig.root)) == {}


def test_it_outlives_its_crash_and_knows_its_annotations(desk: Desk) -> None:
    desk.remember()
    result_of(desk.source.remove(desk.new, desk.load(), keep=False))
    assert stored_crashes(desk.rig.root) == {}
    source = desk.unpublished()
    [new] = result_of(listed(source))
    crash = result_of(source.load(new))
    assert crash is not None
    assert (crash.crash_id, crash.raw_crash, crash.dumps) == (CRASH_ID, make_crash().raw_crash, [])
    result_of(source.remove(new, crash, keep=True))
    assert ids(source) == []
    assert os.listdir(desk.rig.staging.path) == ["lock"]


def test_each_publisher_has_its_own(desk: Desk) -> None:
    desk.remember()
    desk.remember("redis /../x")
    assert ids(desk.unpublished()) == ids(desk.unpublished("redis /../x")) == [CRASH_ID]
    assert count_unpublished(str(desk.rig.root)) == {QUEUE: 1, "redis /../x": 1}
    assert ids(desk.unpublished("another")) == []


def test_remembered_twice_it_is_there_once(desk: Desk) -> None:
    desk.remember()
    desk.remember()
    assert ids(desk.unpublished()) == [CRASH_ID]


@for_each("name", ["x" * 300, ".hidden", "http http://host/path?a=b", "ü" * 100])
def test_any_name_of_a_publisher_is_the_name_of_one_directory(name: str) -> None:
    directory = directory_of("/root", name)
    assert os.path.dirname(directory) == "/root/unpublished"
    assert len(os.path.basename(directory).encode()) <= 255
    assert not os.path.basename(directory).startswith(".")


def test_all_of_it_is_durable_before_it_counts(desk: Desk) -> None:
    with noted_syncs() as synced:
        desk.remember()
    directory = Path(directory_of(str(desk.rig.root), QUEUE))
    minute = directory / "20160622T1519"
    assert set(map(str, [desk.rig.root, directory.parent, directory, minute])) <= set(synced)
    assert synced[-1] == str(minute)
    with noted_syncs() as synced:
        desk.remember()
    assert synced == [str(minute)]


def test_a_copy_where_there_are_no_hard_links_is_durable_too(desk: Desk) -> None:
    os.makedirs(directory_of(str(desk.rig.root), QUEUE) + "/20160622T1519")
    with failing(desk.rig.root, "link", 1, OSError(errno.EPERM, "no links")), noted_syncs() as synced:
        desk.remember()
    assert any(path.startswith(desk.rig.staging.path) for path in synced)
    [new] = result_of(listed(desk.unpublished()))
    with open(f"{new.slot}/{CRASH_ID}.json") as file:
        assert json.load(file)["uuid"] == CRASH_ID


@pytest.mark.parametrize("operation", ["fsync", "link", "mkdir"])
def test_what_may_not_be_durable_is_an_error_and_the_next_try_is_none(desk: Desk, operation: str) -> None:
    crash = desk.load()

    async def fail() -> Exception:
        with failing(desk.rig.root, operation, 1, OSError(errno.EIO, "broken")):
            return await error_of(desk.source.remember(desk.new, crash, QUEUE))

    assert isinstance(result_of(fail()), StorageError)
    assert ids(desk.unpublished()) == []
    with noted_syncs() as synced:
        result_of(desk.source.remember(desk.new, crash, QUEUE))
    assert str(desk.rig.root) in synced
    assert ids(desk.unpublished()) == [CRASH_ID]


def test_after_a_sync_that_failed_no_directory_counts_as_durable(desk: Desk) -> None:
    desk.remember()
    crash = desk.load()

    async def fail() -> Exception:
        with failing(desk.rig.root, "fsync", 1, OSError(errno.EIO, "broken")):
            return await error_of(desk.source.remember(desk.new, crash, QUEUE))

    assert isinstance(result_of(fail()), StorageError)
    with noted_syncs() as synced:
        desk.remember()
    assert str(desk.rig.root) in synced


def test_a_directory_that_was_made_again_is_made_durable_again(desk: Desk) -> None:
    desk.remember()
    shutil.rmtree(desk.rig.root / "unpublished")
    with noted_syncs() as synced:
        desk.remember()
    assert str(desk.rig.root) in synced


def test_a_crash_that_is_gone_is_an_error(desk: Desk) -> None:
    crash = desk.load()
    result_of(desk.source.remove(desk.new, crash, keep=False))
    assert isinstance(result_of(error_of(desk.source.remember(desk.new, crash, QUEUE))), StorageError)


def test_oldest_first_and_empty_minutes_go(desk: Desk) -> None:
    desk.remember()
    desk.time += timedelta(minutes=2)
    desk.rig.save(desk.rig.transaction(make_crash(NEIGHBOUR)))
    desk.new = NewCrash(NEIGHBOUR, desk.new.slot)
    desk.remember()
    source = desk.unpublished()
    first, second = result_of(listed(source))
    assert (first.crash_id, second.crash_id) == (CRASH_ID, NEIGHBOUR)
    crash = result_of(source.load(first))
    assert crash is not None
    result_of(source.remove(first, crash, keep=True))
    assert ids(source) == [NEIGHBOUR]
    assert os.path.exists(first.slot)
    desk.time += timedelta(minutes=4)
    assert ids(source) == [NEIGHBOUR]
    assert not os.path.exists(first.slot)


def test_two_processes_do_not_publish_one_id(desk: Desk) -> None:
    desk.remember()
    another = make_rig(desk.rig.root)
    here, there = desk.unpublished(), desk.unpublished(rig=another)
    [new] = result_of(listed(here))
    crash = result_of(here.load(new))
    assert crash is not None
    assert result_of(there.load(new)) is None
    result_of(here.release(new))
    assert result_of(there.load(new)) is not None
    assert not result_of(there.is_gone(new, crash))
    result_of(there.remove(new, crash, keep=True))
    assert result_of(here.load(new)) is None
    another.staging.remove()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000], ids=["empty", "cut", "array", "deep"])
def test_a_damaged_one_is_published_by_its_id(desk: Desk, content: bytes) -> None:
    desk.remember()
    source = desk.unpublished()
    [new] = result_of(listed(source))
    path = Path(new.slot) / f"{CRASH_ID}.json"
    path.unlink()
    path.write_bytes(content)
    crash: Any = result_of(source.load(new))
    assert (crash.crash_id, crash.raw_crash) == (CRASH_ID, {})


def test_what_a_publisher_never_takes_is_put_aside(desk: Desk) -> None:
    desk.remember()
    source = desk.unpublished()
    [new] = result_of(listed(source))
    result_of(source.load(new))
    result_of(source.quarantine(new, "a bug"))
    assert ids(source) == []
    assert Path(directory_of(str(desk.rig.root), QUEUE), "refused", f"{CRASH_ID}.json").exists()
