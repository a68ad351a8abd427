"""
Crashes are brought back from their destinations.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from collectord.errors import StorageError
from collectord.storage.filesystem.identity import MARK
from collectord.storage.objects.bucket import BucketCrashStorage, BucketSettings
from collectord.storage.objects.keys import Item, items_of
from tests.support.cases import for_each
from tests.support.fakereactor import FakeReactor
from tests.unit.cli.command import CRASH_ID, DUMPS, NEIGHBOUR, STRANGER, keep, lines, run
from tests.unit.intake.parts import result_of
from tests.unit.storage.stores import bytes_of, error_of, make_crash

pytestmark = pytest.mark.usefixtures("threads_at_once")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings with a collector, and a fallback of two directories; the second of them has a crash."""
    monkeypatch.setattr("collectord.cli.fetch.run_in_reactor", lambda work: result_of(work(FakeReactor())))
    keep(tmp_path / "second", new=False)
    (tmp_path / "first").mkdir()
    for name in ("first", "second"):
        (tmp_path / name / MARK).write_text('{"store_id": "any"}')
    path = tmp_path / "c.toml"
    of = [f'{{type = "filesystem", root = "{tmp_path}/{name}"}}' for name in ("first", "second")]
    path.write_text(
        f'[[storage]]\nroot = "{tmp_path}/store"\n[[crashmover.destination]]\ntype = "http"\nurl = "http://x/submit"\n'
        f'[[crashmover.destination]]\ntype = "fallback"\nof = [{", ".join(of)}]\n'
    )
    return path


def test_the_files_are_those_that_a_store_has(config: Path, tmp_path: Path) -> None:
    fetched = run("fetch", f"bp-{CRASH_ID}", "--to", tmp_path / "here", "--config", config)
    assert (fetched.exit_code, fetched.stderr) == (0, "")
    files = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert files.pop(f"{CRASH_ID}.json").startswith(b"{")
    assert files == {f"{CRASH_ID}.dump": DUMPS["upload_file_minidump"], f"{CRASH_ID}.extra_2.dump": DUMPS["extra_2"]}
    assert sorted(fetched.stdout.split()) == sorted(str(path) for path in (tmp_path / "here").iterdir())
    assert (tmp_path / "here" / f"{CRASH_ID}.dump").stat().st_mode & 0o777 == 0o600


def test_for_scripts_and_with_one_that_nobody_has(config: Path, tmp_path: Path) -> None:
    fetched = run("fetch", STRANGER, CRASH_ID, "--json", "--config", config)
    assert fetched.exit_code == 1
    missing, found = lines(fetched)
    assert (missing["where"], missing["files"]) == (None, [])
    assert missing["problems"] == ["http://x/submit: gives no crash back", "no other destination has it"]
    assert (found["where"], found["problems"]) == (str(tmp_path / "second"), [])


def test_a_destination_that_can_not_be_asked_may_have_it(config: Path, tmp_path: Path) -> None:
    config.write_text(
        config.read_text().replace('"http"\nurl = "http://x/submit"', f'"filesystem"\nroot = "{tmp_path}/mnt"')
    )
    (tmp_path / "mnt").mkdir()  # a mount point, and nothing is mounted
    said = run("fetch", STRANGER, "--config", config).stderr.splitlines()
    assert said == [
        f"collectord: {STRANGER}: {tmp_path}/mnt: no daemon has used it yet, or its file system is not mounted",
        f"collectord: {STRANGER}: no other destination has it",
    ]
    (tmp_path / "mnt" / MARK).write_text('{"store_id": "any"}')
    assert run("fetch", STRANGER, "--config", config).stderr == f"collectord: {STRANGER}: no destination has it\n"


def test_nothing_is_overwritten_unless_it_may_be(config: Path, tmp_path: Path) -> None:
    (tmp_path / f"{CRASH_ID}.json").write_text("mine")
    assert run("fetch", CRASH_ID, "--config", config).exit_code == 2
    assert (tmp_path / f"{CRASH_ID}.json").read_text() == "mine"
    assert run("fetch", CRASH_ID, "--force", "--config", config).exit_code == 0


def test_what_is_not_as_received_is_told(config: Path, tmp_path: Path) -> None:
    [dump] = (tmp_path / "second").rglob(f"{CRASH_ID}.dump")
    dump.write_bytes(b"something else")
    fetched = run("fetch", CRASH_ID, "--config", config)
    assert fetched.exit_code == 1
    assert f"{CRASH_ID}: the dump upload_file_minidump has the checksum" in fetched.stderr


def test_without_a_destination() -> None:
    assert "the settings have no destination" in run("fetch", CRASH_ID).stderr


# ——— buckets ———


class MemoryBucket:
    """Objects by their keys. @ivar broken: every request fails."""

    name = "memory://bucket"
    what = "bucket memory"
    errors: tuple[type[Exception], ...] = (ZeroDivisionError,)
    refusals: tuple[type[Exception], ...] = ()
    broken = False

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.objects = dict(objects)

    def put(self, item: Item, proceed: Any, *, again: bool) -> None:
        raise NotImplementedError

    def get(self, key: str) -> bytes | None:
        if self.broken:
            raise ZeroDivisionError("no answer")
        return self.objects.get(key)

    def delete(self, key: str) -> None:
        del self.objects[key]

    def describe_error(self, error: Exception) -> str:
        return str(error)

    def close(self) -> None:
        """Nothing is open."""


def bucket(prefix: str = "stage/") -> tuple[MemoryBucket, BucketCrashStorage]:
    objects = {item.key: result_of(bytes_of(item.content)) for item in items_of(make_crash(CRASH_ID), prefix)}
    memory = MemoryBucket(objects)
    settings = BucketSettings(type="memory", bucket="bucket", prefix=prefix)
    return memory, BucketCrashStorage(memory, settings, FakeReactor().callFromThread)


@for_each("prefix", ["", "stage/"])
def test_a_bucket_gives_back_what_was_put_there(prefix: str) -> None:
    _, storage = bucket(prefix)
    found = result_of(storage.fetch(CRASH_ID))
    assert found is not None
    assert json.loads(found.raw_crash) == make_crash(CRASH_ID).raw_crash
    assert {name: hashlib.sha256(dump).hexdigest() for name, dump in found.dumps.items()} == {
        dump.name: dump.sha256 for dump in make_crash(CRASH_ID).dumps
    }
    assert result_of(storage.fetch(NEIGHBOUR)) is None
    assert storage.place_of(CRASH_ID) == f"memory://bucket/{prefix}v1/raw_crash/20160622/{CRASH_ID}"


@for_each(
    ("key", "content", "why"),
    [
        (f"v1/dump/{CRASH_ID}", None, "has no dump upload_file_minidump there"),
        (f"v1/dump_names/{CRASH_ID}", b"{", "no list of names in JSON"),
    ],
)
def test_what_is_not_whole_in_a_bucket_is_told(key: str, content: bytes | None, why: str) -> None:
    memory, storage = bucket("")
    if content is None:
        del memory.objects[key]
    else:
        memory.objects[key] = content
    error = result_of(error_of(storage.fetch(CRASH_ID)))
    assert isinstance(error, StorageError)
    assert why in str(error)


def test_a_bucket_that_does_not_answer() -> None:
    memory, storage = bucket()
    memory.broken = True
    assert str(result_of(error_of(storage.fetch(CRASH_ID)))) == "bucket memory: no answer"
