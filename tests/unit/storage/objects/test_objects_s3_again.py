"""
What has arrived in S3 is not sent again when a crash is tried again: neither objects nor parts.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import botocore.handlers
import pytest
from attrs import define, evolve, field
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThread

from collectord.errors import CrashRejectedByStore, StorageError
from collectord.model import MINIDUMP, Crash
from collectord.plugins import PluginContext
from collectord.storage.objects import attempts, s3parts, s3uploads
from collectord.storage.objects.bucket import BucketCrashStorage, Digests
from collectord.storage.objects.s3 import make
from collectord.storage.objects.s3settings import S3Settings
from tests.support.buckets import MINIDUMP_KEY, NAMES_KEY, RAW_CRASH_KEY, flip, on_disk
from tests.support.cases import first_quick
from tests.support.fakes3 import Asked, FakeS3, HangUp, Said, refusal
from tests.unit.storage.stores import CRASH_ID, DUMPS, NEIGHBOUR, error_of, in_reactor, make_crash, started

_PART = 8_000
LARGE = 3 * _PART + 100
BEGIN = [f"POST {MINIDUMP_KEY} uploads"]
LIST = ["GET  uploads"]
COMPLETE = [f"POST {MINIDUMP_KEY} uploadId"]
REST = [f"PUT {NAMES_KEY}", f"PUT {RAW_CRASH_KEY}"]


def parts(count: int) -> list[str]:
    return [f"PUT {MINIDUMP_KEY} partNumber uploadId"] * count


@pytest.fixture(autouse=True)
def _quick_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(s3parts, "_PART", _PART)
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", [])  # they are for clients of boto3, which nothing makes
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@define
class Scene:
    """
    A bucket, and a crash with a large dump.

    @ivar storages: those of several processes; the first is C{storage}.
    """

    s3: FakeS3
    crash: Crash
    content: bytes
    path: Path
    storages: list[BucketCrashStorage] = field(factory=list)

    @property
    def storage(self) -> BucketCrashStorage:
        return self.storages[0]

    def another(self) -> BucketCrashStorage:
        """A storage of another process, which has run for a while."""
        settings = S3Settings(
            type="s3", bucket="crashes", endpoint_url=self.s3.url, access_key="AKIA", secret_key="secret"
        )
        storage = make(settings, PluginContext(reactor))
        bucket: Any = storage._bucket
        bucket._multipart_bytes = 5000
        bucket._uploads._began -= 60
        self.storages.append(storage)
        return storage

    def breaks_at(self, number: int) -> None:
        """From now on the server hangs up at each part of that number."""

        def break_off(asked: Asked) -> Said | None:
            if asked.query.get("partNumber") == str(number):
                raise HangUp
            return None

        self.s3.instead = break_off

    async def fail_at(self, number: int, storage: BucketCrashStorage | None = None) -> Exception:
        """Let the crash fail at a part of its dump, and forget what was asked for."""
        self.breaks_at(number)
        error = await error_of((storage or self.storage).save(self.crash))
        self.s3.instead = lambda asked: None
        self.s3.asked.clear()
        return error

    def assert_saved(self) -> None:
        assert self.s3.objects[MINIDUMP_KEY] == self.content
        assert list(self.s3.objects)[-1] == RAW_CRASH_KEY
        assert self.s3.uploads == {}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    content, path = os.urandom(LARGE), tmp_path / "dump"
    with FakeS3() as s3:
        scene = Scene(s3, on_disk(path, content), content, path)
        scene.another()
        yield scene
        for storage in scene.storages:
            storage._bucket.close()
            storage._workers.close()


@in_reactor
async def test_only_the_parts_that_are_missing_are_sent(scene: Scene) -> None:
    assert isinstance(await scene.fail_at(3), StorageError)
    await scene.storage.save(scene.crash)
    assert scene.s3.steps() == [*parts(2), *COMPLETE, *REST]
    scene.assert_saved()


@in_reactor
async def test_it_may_break_off_again_and_again(scene: Scene) -> None:
    for number in (1, 2, 3, 4):
        await scene.fail_at(number)
    await scene.storage.save(scene.crash)
    assert scene.s3.steps() == [*parts(1), *COMPLETE, *REST]
    scene.assert_saved()


@in_reactor
async def test_a_completion_that_fails_is_all_that_is_left(scene: Scene) -> None:
    scene.s3.instead = lambda asked: (
        refusal(503, "SlowDown") if asked.method == "POST" and "uploadId" in asked.query else None
    )
    await error_of(scene.storage.save(scene.crash))
    scene.s3.instead = lambda asked: None
    scene.s3.asked.clear()
    await scene.storage.save(scene.crash)
    assert scene.s3.steps() == [*COMPLETE, *REST]
    scene.assert_saved()


@in_reactor
async def test_an_upload_that_the_server_has_forgotten_is_begun_anew(scene: Scene) -> None:
    await scene.fail_at(3)
    scene.s3.uploads.clear()
    await scene.storage.save(scene.crash)
    assert scene.s3.steps() == [*parts(1), f"DELETE {MINIDUMP_KEY} uploadId", *BEGIN, *parts(4), *COMPLETE, *REST]
    scene.assert_saved()


@in_reactor
async def test_a_crash_with_another_content_begins_anew(scene: Scene) -> None:
    await scene.fail_at(3)
    scene.content = os.urandom(LARGE)
    scene.crash = on_disk(scene.path, scene.content)
    await scene.storage.save(scene.crash)
    assert scene.s3.steps() == [f"DELETE {MINIDUMP_KEY} uploadId", *BEGIN, *parts(4), *COMPLETE, *REST]
    scene.assert_saved()


@first_quick("offset", [0, LARGE - 1], ids=["in a part that arrived", "in one that did not"])
@in_reactor
async def test_a_dump_that_has_changed_meanwhile_is_not_kept(scene: Scene, offset: int) -> None:
    await scene.fail_at(3)
    flip(scene.path, offset)
    error = await error_of(scene.storage.save(scene.crash))
    assert isinstance(error, CrashRejectedByStore)
    assert "it was received with" in str(error)
    assert (scene.s3.objects, scene.s3.uploads) == ({}, {})


@in_reactor
async def test_a_part_that_the_server_has_lost_is_noticed_at_the_end(scene: Scene) -> None:
    """Or spoiled: what it says of the whole object is compared with all that was sent."""
    await scene.fail_at(3)
    for _, kept in scene.s3.uploads.values():
        kept[1] = kept[1][::-1]
    assert "was stored with the ETag" in str(await error_of(scene.storage.save(scene.crash)))
    assert RAW_CRASH_KEY not in scene.s3.objects
    await scene.storage.save(scene.crash)
    scene.assert_saved()


@in_reactor
async def test_one_that_was_abandoned_sends_its_part_to_the_end_and_no_other(scene: Scene) -> None:
    """As when a slow link makes a crash take longer than its time limit. The next attempt waits for that part."""
    came, may_go_on = Event(), Event()

    def wait(asked: Asked) -> Said | None:
        if asked.query.get("partNumber") == "2":
            came.set()
            may_go_on.wait()
        return None

    scene.s3.instead = wait
    saving = started(scene.storage.save(scene.crash))
    await deferToThread(came.wait)
    saving.cancel()
    with pytest.raises(CancelledError):
        await saving
    again = started(scene.storage.save(scene.crash))
    await deferToThread(time.sleep, 0.02)
    may_go_on.set()
    await again
    assert scene.s3.steps() == [*LIST, *BEGIN, *parts(4), *COMPLETE, *REST]
    scene.assert_saved()


@in_reactor
async def test_an_upload_that_gets_no_further_is_begun_anew(scene: Scene) -> None:
    """As with rclone, where a part that hangs holds up its upload while the server waits for the rest of it."""
    await scene.fail_at(2)
    (first,) = scene.s3.uploads
    for _ in range(3):
        await scene.fail_at(2)
    scene.s3.uploads[first] = (MINIDUMP_KEY, {})  # the server does not even abort it
    await scene.storage.save(scene.crash)
    assert scene.s3.steps() == [*LIST, *BEGIN, *parts(4), *COMPLETE, *REST]


@in_reactor
async def test_a_server_that_answers_500_for_what_it_has_forgotten(scene: Scene) -> None:
    """As moto does."""
    await scene.fail_at(2)
    scene.s3.uploads.clear()
    forgotten = Said(500, {"content-type": "text/html"}, b"<title>Internal Server Error</title>")
    scene.s3.after = lambda asked, said: forgotten if said.status == 404 else said
    await scene.storage.save(scene.crash)
    scene.assert_saved()


# What other processes have sent


@in_reactor
async def test_another_process_goes_on_with_it(scene: Scene) -> None:
    """Of the same daemon, as one of several workers."""
    await scene.fail_at(3)
    await scene.another().save(scene.crash)
    assert scene.s3.steps() == [*LIST, f"GET {MINIDUMP_KEY} uploadId", *parts(2), *COMPLETE, *REST]
    scene.assert_saved()


@in_reactor
async def test_parts_that_are_listed_with_another_content_are_sent_again(scene: Scene) -> None:
    await scene.fail_at(3)
    ((_, kept),) = scene.s3.uploads.values()
    kept[1] = kept[1][::-1]
    await scene.another().save(scene.crash)
    assert scene.s3.steps()[2:] == [*parts(3), *COMPLETE, *REST]
    scene.assert_saved()


@first_quick("begun", [None, time.time() - 3600], ids=["nobody knows when", "before this process"])
@in_reactor
async def test_an_upload_of_an_earlier_run_is_aborted(scene: Scene, begun: float | None) -> None:
    """It may have been begun with other settings, as without encryption."""
    await scene.fail_at(3)
    scene.s3.begun = {} if begun is None else dict.fromkeys(scene.s3.uploads, begun)
    await scene.another().save(scene.crash)
    assert scene.s3.steps()[:4] == [*LIST, f"DELETE {MINIDUMP_KEY} uploadId", *BEGIN, *parts(1)]
    scene.assert_saved()


@in_reactor
async def test_without_the_permission_to_list_parts_it_is_aborted(scene: Scene) -> None:
    await scene.fail_at(3)
    scene.s3.instead = lambda asked: (
        refusal(403, "AccessDenied") if asked.method == "GET" and "uploadId" in asked.query else None
    )
    await scene.another().save(scene.crash)
    assert scene.s3.steps()[2:4] == [f"DELETE {MINIDUMP_KEY} uploadId", *BEGIN]
    scene.assert_saved()


# Whole objects


@in_reactor
async def test_an_object_that_is_there_is_looked_at_and_not_sent_again(scene: Scene) -> None:
    scene.s3.instead = lambda asked: refusal(503, "SlowDown") if NAMES_KEY in asked.path else None
    await error_of(scene.storage.save(make_crash()))
    scene.s3.instead = lambda asked: None
    scene.s3.asked.clear()
    await scene.storage.save(make_crash())
    assert scene.s3.steps() == [f"HEAD {MINIDUMP_KEY}", f"HEAD v1/extra_2/{CRASH_ID}", *REST]
    scene.s3.asked.clear()
    await scene.storage.save(make_crash())
    assert len([asked for asked in scene.s3.asked if asked.method == "PUT"]) == 4  # all of it was saved, and forgotten


@pytest.mark.parametrize("what", ["gone", "another", "may not look"])
@in_reactor
async def test_an_object_that_is_not_surely_there_is_sent_again(scene: Scene, what: str) -> None:
    scene.s3.instead = lambda asked: refusal(503, "SlowDown") if NAMES_KEY in asked.path else None
    await error_of(scene.storage.save(make_crash()))
    scene.s3.instead = lambda asked: Said(403) if asked.method == "HEAD" and what == "may not look" else None
    if what == "gone":
        scene.s3.objects.clear()
    elif what == "another":
        scene.s3.objects[MINIDUMP_KEY] = scene.s3.objects[MINIDUMP_KEY][::-1]
    await scene.storage.save(make_crash())
    assert scene.s3.objects[MINIDUMP_KEY] == DUMPS[MINIDUMP]


@in_reactor
async def test_a_large_object_that_is_there_is_not_sent_again(scene: Scene) -> None:
    """If it was proven by more than its ETag, which is one of parts."""
    scene.s3.instead = lambda asked: refusal(503, "SlowDown") if NAMES_KEY in asked.path else None
    await error_of(scene.storage.save(scene.crash))
    scene.s3.instead = lambda asked: None
    scene.s3.asked.clear()
    await scene.storage.save(scene.crash)
    assert scene.s3.steps() == [f"HEAD {MINIDUMP_KEY}", *REST]


# What is given up


def other_crash(scene: Scene, number: int) -> Crash:
    crash_id = f"{number:08x}{NEIGHBOUR[8:]}"
    return evolve(scene.crash, crash_id=crash_id, raw_crash={**scene.crash.raw_crash, "uuid": crash_id})


@in_reactor
async def test_what_is_remembered_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3uploads, "_MOST", 2)
    scene.breaks_at(2)
    for number in range(4):
        await error_of(scene.storage.save(other_crash(scene, number)))
    assert [key.split("/")[-1][:8] for key, _ in scene.s3.uploads.values()] == ["00000002", "00000003"]


@in_reactor
async def test_one_that_nobody_goes_on_with_is_aborted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its crash went to the quarantine, or another process has moved it."""
    await scene.fail_at(2)
    await scene.storage.check()
    assert len(scene.s3.uploads) == 1
    monkeypatch.setattr(s3uploads, "_WAITS_S", -1.0)
    await scene.storage.check()
    assert scene.s3.uploads == {}


@in_reactor
async def test_closed_it_aborts_what_it_has_begun(scene: Scene) -> None:
    await scene.fail_at(2)
    await scene.storage.close()
    assert scene.s3.uploads == {}


@in_reactor
async def test_closed_it_asks_a_server_that_is_away_only_once(scene: Scene) -> None:
    scene.breaks_at(2)
    for number in range(3):
        await error_of(scene.storage.save(other_crash(scene, number)))

    def hang_up(asked: Asked) -> Said | None:
        raise HangUp

    scene.s3.instead = hang_up
    scene.s3.asked.clear()
    await scene.storage.close()
    assert len(scene.s3.asked) == attempts.ATTEMPTS


@pytest.mark.parametrize("status", [400, 404], ids=["bad", "no bucket"])
@in_reactor
async def test_an_upload_that_is_refused_for_good_is_aborted(scene: Scene, status: int) -> None:
    scene.s3.instead = lambda asked: refusal(status, "InvalidPart") if "partNumber" in asked.query else None
    await error_of(scene.storage.save(scene.crash))
    assert scene.s3.uploads == {}


def test_a_checksum_that_is_listed_counts_more_than_an_etag() -> None:
    """With encryption by keys of the key service an ETag looks like an MD5, and is none."""
    digests = Digests.of(b"x")
    assert s3uploads.Listed(f'"{"0" * 32}"', digests.base64_sha256).as_sent(digests) is not None
    assert s3uploads.Listed(f'"{digests.md5.hex()}"', "c2hh").as_sent(digests) is None
    assert s3uploads.Listed("", "").as_sent(digests) is None
