"""
Crashes in a bucket, as a Socorro processor reads them, and crashes to put there.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from collectord.concurrency.threadpool import ThreadRunner
from collectord.model import MINIDUMP, Crash
from collectord.storage.content import StoredFile
from collectord.storage.objects.bucket import BucketCrashStorage
from collectord.testing.destinations import Kept
from tests.unit.storage.stores import CRASH_ID, NEIGHBOUR, at_once, make_crash

MINIDUMP_KEY = f"v1/dump/{CRASH_ID}"
RAW_CRASH_KEY = f"v1/raw_crash/20160622/{CRASH_ID}"
NAMES_KEY = f"v1/dump_names/{CRASH_ID}"


def kept_in(objects: Mapping[str, bytes], crash_id: str) -> Kept | None:
    """
    What there is of a crash; a C{KeyError} where its raw crash is there and something else is not.

    @param objects: by key.
    """
    raw_crash = objects.get(f"v1/raw_crash/20{crash_id[-6:]}/{crash_id}")
    if raw_crash is None:
        return None
    names = json.loads(objects[f"v1/dump_names/{crash_id}"])
    dumps = {name: objects[f"v1/{'dump' if name == MINIDUMP else name}/{crash_id}"] for name in names}
    return Kept(json.loads(raw_crash), dumps)


def on_disk(path: Path, content: bytes) -> Crash:
    """A crash whose minidump is a file."""
    path.write_bytes(content)
    in_thread: ThreadRunner = at_once
    return make_crash(dumps={MINIDUMP: content}, places={MINIDUMP: StoredFile(str(path), len(content), in_thread)})


def flip(path: Path, offset: int) -> None:
    """Change one byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


async def erases(storage: BucketCrashStorage, objects: Callable[[], Mapping[str, bytes]]) -> None:
    """Of two crashes one is erased, and nothing else; it may come again."""
    await storage.save(make_crash())
    await storage.save(make_crash(NEIGHBOUR))
    both = objects()
    others = {key: content for key, content in both.items() if CRASH_ID not in key}
    assert len(others) == len(both) - len(others)
    assert await storage.erase(CRASH_ID)
    assert objects() == others
    assert not await storage.erase(CRASH_ID)
    await storage.save(make_crash())
    assert objects() == both
    await storage.close()


async def turn() -> None:
    """Let the reactor turn."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    await deferLater(reactor, 0.01)
