"""
A crash is kept by a bucket in S3 once it is known that each object was stored as it was received, the raw crash last.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import botocore.handlers
import pytest
import pytest_twisted  # type: ignore[import-untyped]
from pydantic import ValidationError
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from collectord.errors import ConfigError, CrashRejectedByStore, StorageError, UnclearRefusal
from collectord.interfaces import ICrashStorage
from collectord.model import MINIDUMP
from collectord.plugins import PluginContext
from collectord.storage.objects import attempts, s3client, s3parts
from collectord.storage.objects import s3 as s3_module
from collectord.storage.objects.bucket import BucketCrashStorage, Digests
from collectord.storage.objects.s3 import make
from collectord.storage.objects.s3proof import compares_sha256
from collectord.storage.objects.s3settings import S3Settings
from collectord.storage.objects.s3uploads import SentPart
from collectord.testing.leaks import assert_nothing_is_left, held_now
from tests.support.buckets import MINIDUMP_KEY, NAMES_KEY, RAW_CRASH_KEY, flip, on_disk
from tests.support.cases import first_quick, for_each
from tests.support.fakes3 import Asked, FakeS3, HangUp, Said, refusal, with_headers
from tests.unit.storage.stores import CRASH_ID, DUMPS, error_of, in_reactor, make_crash

MIB = 1024 * 1024
KEYS = [MINIDUMP_KEY, f"v1/extra_2/{CRASH_ID}", NAMES_KEY, RAW_CRASH_KEY]
LARGE = 11_000
_PART = 8_000
PARTS = [
    "GET  uploads",
    f"POST {MINIDUMP_KEY} uploads",
    f"PUT {MINIDUMP_KEY} partNumber uploadId",
    f"PUT {MINIDUMP_KEY} partNumber uploadId",
    f"POST {MINIDUMP_KEY} uploadId",
]
"""The requests that send a large dump, before those of all other objects."""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.0)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", [])  # they are for clients of boto3, which nothing makes


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3parts, "_PART", _PART)


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    with FakeS3() as fake:
        yield fake


@pytest.fixture
def storage(s3: FakeS3) -> Iterator[BucketCrashStorage]:
    made = new_storage(s3)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


def new_storage(s3: FakeS3, **settings: Any) -> BucketCrashStorage:
    given = {"endpoint_url": s3.url, "access_key": "AKIA", "secret_key": "secret", **settings}
    return make(S3Settings(type="s3", bucket="crashes", **given), PluginContext(reactor))


def new_storage_of_parts(s3: FakeS3, beyond: int = 5000, **settings: Any) -> BucketCrashStorage:
    """It sends large objects in parts, and not only very large ones."""
    storage = new_storage(s3, **settings)
    storage._bucket._multipart_bytes = beyond  # type: ignore[attr-defined]
    return storage


async def save_with(s3: FakeS3, **settings: Any) -> None:
    storage = new_storage(s3, **settings)
    await storage.save(make_crash(dumps={}))
    await storage.close()


@in_reactor
async def test_a_crash_is_objects_and_the_raw_crash_comes_last(s3: FakeS3, storage: BucketCrashStorage) -> None:
    verifyObject(ICrashStorage, storage)
    crash = make_crash()
    assert await storage.save(crash) == storage.name == "s3://crashes"
    assert s3.steps() == [f"PUT {key}" for key in KEYS]
    assert s3.objects[MINIDUMP_KEY] == DUMPS[MINIDUMP]
    assert json.loads(s3.objects[NAMES_KEY]) == [MINIDUMP, "extra_2"]
    assert json.loads(s3.objects[RAW_CRASH_KEY]) == crash.raw_crash


@in_reactor
async def test_all_objects_of_a_crash_go_through_one_connection(s3: FakeS3, storage: BucketCrashStorage) -> None:
    for _ in range(5):
        await storage.save(make_crash())
    assert len(s3._connections) == 1


@in_reactor
async def test_every_body_is_sent_with_its_checksums(s3: FakeS3, storage: BucketCrashStorage) -> None:
    s3.after = lambda asked, said: with_headers(said, x_amz_checksum_sha256=None)
    await storage.save(make_crash())
    for asked in s3.asked:
        sha256 = hashlib.sha256(asked.body)
        assert asked.headers["content-md5"] == base64.b64encode(hashlib.md5(asked.body).digest()).decode()
        assert asked.headers["x-amz-checksum-sha256"] == base64.b64encode(sha256.digest()).decode()
        assert asked.headers["x-amz-content-sha256"] == sha256.hexdigest()


@pytest.mark.parametrize("on", ["disk", "memory"])
@in_reactor
async def test_no_md5_is_made_for_a_server_that_answers_with_a_sha256(
    s3: FakeS3, storage: BucketCrashStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str
) -> None:
    await storage.save(make_crash())
    assert ["content-md5" in asked.headers for asked in s3.asked] == [True, False, False, False]
    s3.asked.clear()
    monkeypatch.setattr(s3_module, "md5_of", None)
    await storage.save(on_disk(tmp_path / "dump", b"MDMP") if on == "disk" else make_crash())
    assert not any("content-md5" in asked.headers for asked in s3.asked)
    assert MINIDUMP_KEY in s3.objects


def repeats(asked: Asked) -> Said:
    """A server that stores whatever comes, and answers with the checksum that came with it."""
    etag = hashlib.md5(asked.body).hexdigest()
    return Said(headers={"ETag": etag, "x-amz-checksum-sha256": asked.headers["x-amz-checksum-sha256"]})


@first_quick(
    ("instead", "asks", "md5s"),
    [
        (lambda asked: repeats(asked) if asked.method == "PUT" else None, 2, [True] * 8),
        (lambda asked: None, 1, [True] + [False] * 7),
        (lambda asked: refusal(403, "AccessDenied") if "/check/" in asked.path else None, 1, [True] * 8),
    ],
    ids=["repeats", "compares", "refuses all"],
)
@in_reactor
async def test_a_sha256_is_enough_only_for_a_server_that_has_refused_a_wrong_one(
    s3: FakeS3,
    storage: BucketCrashStorage,
    monkeypatch: pytest.MonkeyPatch,
    instead: Callable[[Asked], Said | None],
    asks: int,
    md5s: list[bool],
) -> None:
    monkeypatch.setattr(s3_module, "compares_sha256", compares_sha256)
    s3.instead = instead
    await storage.save(make_crash())
    await storage.save(make_crash("f0e0a3a6-1d0c-4b0f-8f6e-2a7de2160622"))
    asked = [each for each in s3.asked if "/check/" in each.path]
    assert len(asked) == asks
    assert asked[0].headers["x-amz-content-sha256"] == hashlib.sha256(asked[0].body).hexdigest()
    assert ["content-md5" in each.headers for each in s3.asked if each not in asked] == md5s
    assert not any("/check/" in key for key in s3.objects)


@in_reactor
async def test_a_server_that_does_not_answer_to_that_question_holds_up_no_other_object(
    s3: FakeS3, storage: BucketCrashStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another crash goes through meanwhile, and the question is not put once more."""
    is_asked, may_end = Event(), Event()

    def hang_up(asked: Asked) -> None:
        if "/check/" in asked.path:
            is_asked.set()
            assert may_end.wait(10)
            raise HangUp

    monkeypatch.setattr(s3_module, "compares_sha256", compares_sha256)
    s3.instead = hang_up
    first = Deferred.fromCoroutine(storage.save(make_crash()))
    await deferToThread(is_asked.wait, 10)
    await storage.save(make_crash("f0e0a3a6-1d0c-4b0f-8f6e-2a7de2160622"))
    may_end.set()
    await first
    await storage.save(make_crash("f0e0a3a6-1d0c-4b0f-8f6e-2a7de2160623"))
    asked = [each for each in s3.asked if "/check/" in each.path]
    assert len(asked) == attempts.ATTEMPTS
    assert all("content-md5" in each.headers for each in s3.asked if each not in asked)


@in_reactor
async def test_a_server_that_refuses_an_object_without_an_md5_gets_one_again(
    s3: FakeS3, storage: BucketCrashStorage
) -> None:
    await storage.save(make_crash())
    s3.instead = lambda asked: None if "content-md5" in asked.headers else refusal(400, "InvalidRequest")
    other = make_crash("f0e0a3a6-1d0c-4b0f-8f6e-2a7de2160622")
    with pytest.raises(StorageError, match="InvalidRequest"):
        await storage.save(other)
    for _ in range(2):
        await storage.save(other)


@first_quick(
    ("etag", "told"),
    [(None, ""), (f'"{"0" * 32}"', "was stored with the ETag 0000")],
    ids=["right", "wrong"],
)
@in_reactor
async def test_a_server_that_no_longer_answers_with_a_sha256(
    s3: FakeS3, storage: BucketCrashStorage, etag: str | None, told: str
) -> None:
    """Then its ETag counts, and the MD5 is made for that; the next object has it again."""
    await storage.save(make_crash())
    s3.asked.clear()
    others = {} if etag is None else {"etag": etag}
    s3.after = lambda asked, said: with_headers(said, x_amz_checksum_sha256=None, **others)
    if told:
        assert told in str(await error_of(storage.save(make_crash())))
    else:
        await storage.save(make_crash())
        assert ["content-md5" in asked.headers for asked in s3.asked] == [False, True, True, True]
    assert not any(asked.method == "HEAD" for asked in s3.asked)


# What the server says that it has stored


def etag_of(asked: Asked) -> str:
    return hashlib.md5(asked.body).hexdigest()


@first_quick(
    "shape",
    ['"{}"', "{}", 'W/"{}"', '"{}"'.upper()],
    ids=["quoted", "bare", "weak", "upper-case"],
)
@in_reactor
async def test_an_etag_that_is_the_md5_proves_what_was_stored(
    s3: FakeS3, storage: BucketCrashStorage, shape: str
) -> None:
    upper = shape.isupper()
    s3.after = lambda asked, said: with_headers(
        said,
        etag=shape.format(etag_of(asked).upper() if upper else etag_of(asked)),
        x_amz_checksum_sha256=None,
    )
    await storage.save(make_crash())
    assert s3.steps() == [f"PUT {key}" for key in KEYS]


NO_PROOF = {
    "no ETag": dict[str, str | None](etag=None),
    "an empty one": dict[str, str | None](etag='""'),
    "one of another kind": dict[str, str | None](etag='"0x8DD2"'),
    "KMS": dict[str, str | None](etag=f'"{"0" * 32}"', x_amz_server_side_encryption="aws:kms"),
}


@first_quick("headers", NO_PROOF.values(), ids=NO_PROOF)
@in_reactor
async def test_without_a_checksum_in_the_answer_the_object_is_looked_at(
    s3: FakeS3, storage: BucketCrashStorage, headers: dict[str, str | None]
) -> None:
    s3.after = lambda asked, said: with_headers(said, x_amz_checksum_sha256=None, **headers)
    await storage.save(make_crash())
    assert s3.steps() == [step for key in KEYS for step in (f"PUT {key}", f"HEAD {key}")]


@first_quick("headers", NO_PROOF.values(), ids=NO_PROOF)
@in_reactor
async def test_a_checksum_in_the_answer_proves_it_as_well(
    s3: FakeS3, storage: BucketCrashStorage, headers: dict[str, str | None]
) -> None:
    s3.after = lambda asked, said: with_headers(said, **headers)
    await storage.save(make_crash())
    assert s3.steps() == [f"PUT {key}" for key in KEYS]


def says_of(headers: dict[str, str | None], of_head: dict[str, str | None] | None = None) -> Callable[..., Said]:
    def change(asked: Asked, said: Said) -> Said:
        if MINIDUMP_KEY not in asked.path:
            return said
        return with_headers(said, **(of_head or {} if asked.method == "HEAD" else headers))

    return change


NOTHING: dict[str, str | None] = {"etag": None, "x_amz_checksum_sha256": None}


@first_quick(
    ("after", "told"),
    [
        (says_of({"etag": f'"{"0" * 32}"'}), "was stored with the ETag 0000"),
        (says_of({"x_amz_checksum_sha256": "AAAA"}), "was stored with the SHA-256 AAAA"),
        (says_of(NOTHING, {"content_length": "3"}), "was stored with 3 bytes; it should be 13"),
        (says_of(NOTHING, {"etag": f'"{"0" * 32}"'}), "was stored with the ETag 0000"),
        (says_of(NOTHING, {"x_amz_checksum_sha256": "AAAA"}), "was stored with the SHA-256 AAAA"),
    ],
    ids=["ETag", "checksum", "size", "ETag by HEAD", "checksum by HEAD"],
)
@in_reactor
async def test_an_object_that_was_stored_as_another_is_the_trouble_of_its_crash_alone(
    s3: FakeS3, storage: BucketCrashStorage, after: Callable[..., Said], told: str
) -> None:
    s3.after = after
    error = await error_of(storage.save(make_crash()))
    assert isinstance(error, CrashRejectedByStore)
    assert f"bucket crashes: the dump {MINIDUMP} {told}" in str(error)
    assert RAW_CRASH_KEY not in s3.objects
    await storage.save(make_crash(dumps={}))


@in_reactor
async def test_what_can_t_be_proven_is_not_kept(s3: FakeS3, storage: BucketCrashStorage) -> None:
    s3.after = lambda asked, said: with_headers(said, etag=None, x_amz_checksum_sha256=None)
    s3.instead = lambda asked: Said(403) if asked.method == "HEAD" else None
    error = await error_of(storage.save(make_crash()))
    assert "HEAD was answered with 403 Forbidden, without a message" in str(error)
    assert RAW_CRASH_KEY not in s3.objects


@pytest.mark.parametrize("size", [100, LARGE], ids=["whole", "in parts"])
@in_reactor
async def test_a_body_that_changes_on_the_way_is_refused(
    s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """As on a disk that fails in the middle: it is read once for the checksums, and again to be sent."""
    crash = on_disk(tmp_path / "dump", os.urandom(size))
    storage = new_storage_of_parts(s3)

    def spoil(asked: Asked) -> Said | None:
        if asked.method == "PUT":
            object.__setattr__(asked, "body", asked.body[:-1] + bytes([asked.body[-1] ^ 1]))
        return None

    s3.instead = spoil
    assert "bucket crashes: XAmzContentSHA256Mismatch" in str(await error_of(storage.save(crash)))
    assert (s3.objects, s3.uploads) == ({}, {})
    await storage.close()


@in_reactor
async def test_a_dump_that_is_no_longer_what_was_received_is_not_sent(
    s3: FakeS3, storage: BucketCrashStorage, tmp_path: Path
) -> None:
    crash = on_disk(tmp_path / "dump", b"MDMP")
    object.__setattr__(crash.dumps[0], "sha256", "0" * 64)
    error = await error_of(storage.save(crash))
    assert isinstance(error, CrashRejectedByStore)
    assert "it was received with 000" in str(error)
    assert s3.asked == []


@in_reactor
async def test_a_dump_that_is_gone_is_the_trouble_of_its_crash_alone(
    s3: FakeS3, storage: BucketCrashStorage, tmp_path: Path
) -> None:
    crash = on_disk(tmp_path / "dump", b"MDMP")
    (tmp_path / "dump").unlink()
    error = await error_of(storage.save(crash))
    assert isinstance(error, CrashRejectedByStore)
    assert f"the dump {MINIDUMP} can't be read: [Errno 2] No such file" in str(error)


# In parts


async def send_large(s3: FakeS3, tmp_path: Path) -> bytes:
    """Save a crash with a large dump, and return the dump."""
    content = os.urandom(LARGE)
    storage = new_storage_of_parts(s3)
    try:
        await storage.save(on_disk(tmp_path / "dump", content))
    finally:
        await storage.close()
    return content


@in_reactor
async def test_a_large_dump_is_sent_in_parts(s3: FakeS3, tmp_path: Path) -> None:
    content = await send_large(s3, tmp_path)
    assert s3.steps() == [*PARTS, f"PUT {NAMES_KEY}", f"PUT {RAW_CRASH_KEY}"]
    assert s3.objects[MINIDUMP_KEY] == content
    assert [len(asked.body) for asked in s3.asked[2:4]] == [_PART, LARGE - _PART]


def after_completion(change: Callable[[Said], Said]) -> Callable[[Asked, Said], Said]:
    return lambda asked, said: change(said) if asked.method == "POST" and "uploadId" in asked.query else said


def completed(etag: str) -> Callable[[Said], Said]:
    return lambda said: Said(body=f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></X>".encode())


@first_quick("etag", ["", "&quot;&quot;", "&quot;abc-2&quot;"], ids=["none", "empty", "another kind"])
@in_reactor
async def test_an_object_in_parts_whose_etag_proves_nothing_is_looked_at(s3: FakeS3, tmp_path: Path, etag: str) -> None:
    s3.after = after_completion(completed(etag))
    content = await send_large(s3, tmp_path)
    assert s3.steps()[5] == f"HEAD {MINIDUMP_KEY}"
    assert s3.objects[MINIDUMP_KEY] == content


@first_quick("shape", ['"{}"', 'W/"{}"', "{}"], ids=["quoted", "weak", "bare"])
@in_reactor
async def test_an_object_in_parts_may_have_the_md5_of_all_of_it(s3: FakeS3, tmp_path: Path, shape: str) -> None:
    def change(said: Said) -> Said:
        return completed(shape.format(hashlib.md5(s3.objects[MINIDUMP_KEY]).hexdigest().upper()))(said)

    s3.after = after_completion(change)
    await send_large(s3, tmp_path)
    assert s3.steps()[5] == f"PUT {NAMES_KEY}"


@pytest.mark.parametrize("etag", [f"{'0' * 32}-2", "0" * 32], ids=["of parts", "of the whole"])
@in_reactor
async def test_an_object_in_parts_that_was_stored_as_another_is_the_trouble_of_its_crash(
    s3: FakeS3, tmp_path: Path, etag: str
) -> None:
    s3.after = after_completion(completed(etag))
    error = await error_of(send_large(s3, tmp_path))
    assert isinstance(error, CrashRejectedByStore)
    assert f"was stored with the ETag {etag}" in str(error)
    assert RAW_CRASH_KEY not in s3.objects


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
@in_reactor
async def test_an_object_in_parts_that_is_encrypted_is_proven_by_its_checksum(
    s3: FakeS3, tmp_path: Path, right: bool
) -> None:
    """As Amazon answers: the checksum of the checksums of the parts, and an ETag that is no MD5."""

    def change(said: Said) -> Said:
        content = s3.objects[MINIDUMP_KEY]
        parts = [hashlib.sha256(part).digest() for part in (content[:_PART], content[_PART:])]
        checksum = base64.b64encode(hashlib.sha256(b"".join(parts if right else parts[:1])).digest()).decode()
        text = f"<X><ETag>&quot;{'0' * 32}-2&quot;</ETag><ChecksumSHA256>{checksum}-2</ChecksumSHA256></X>"
        return Said(200, {"x-amz-server-side-encryption": "aws:kms"}, text.encode())

    s3.after = after_completion(change)
    if right:
        await send_large(s3, tmp_path)
        assert s3.steps()[5] == f"PUT {NAMES_KEY}"
    else:
        assert "was stored with the SHA-256" in str(await error_of(send_large(s3, tmp_path)))


@in_reactor
async def test_a_part_that_was_stored_as_another_ends_the_upload(s3: FakeS3, tmp_path: Path) -> None:
    s3.after = lambda asked, said: with_headers(said, etag="0" * 32) if "partNumber" in asked.query else said
    assert "was stored with the ETag" in str(await error_of(send_large(s3, tmp_path)))
    assert (s3.uploads, s3.objects) == ({}, {})


@in_reactor
async def test_a_completion_whose_answer_was_lost_is_recognized(s3: FakeS3, tmp_path: Path) -> None:
    """It is sent again, and there is no such upload any more."""

    def lose(asked: Asked, said: Said) -> Said:
        if asked.method == "POST" and "uploadId" in asked.query and said.status == 200:
            raise HangUp
        return said

    s3.after = lose
    content = await send_large(s3, tmp_path)
    assert s3.objects[MINIDUMP_KEY] == content
    assert RAW_CRASH_KEY in s3.objects


@in_reactor
async def test_an_upload_that_is_gone_without_its_object_is_an_error(s3: FakeS3, tmp_path: Path) -> None:
    def forget(asked: Asked) -> Said | None:
        if asked.method == "POST" and "uploadId" in asked.query:
            s3.uploads.clear()
        return None

    s3.instead = forget
    assert "NoSuchUpload" in str(await error_of(send_large(s3, tmp_path)))
    assert RAW_CRASH_KEY not in s3.objects


@in_reactor
async def test_a_completion_that_fails_with_status_200_is_tried_again(s3: FakeS3, tmp_path: Path) -> None:
    failures = [refusal(200, "InternalError", "We encountered an internal error.")]

    def fail_once(asked: Asked) -> Said | None:
        return failures.pop() if asked.method == "POST" and "uploadId" in asked.query and failures else None

    s3.instead = fail_once
    content = await send_large(s3, tmp_path)
    assert s3.objects[MINIDUMP_KEY] == content


@in_reactor
async def test_an_upload_that_a_killed_daemon_has_left_is_aborted_and_no_other(s3: FakeS3, tmp_path: Path) -> None:
    others = {"one": ("v1/dump/another", {1: b"x"}), "two": (f"{MINIDUMP_KEY}2", {1: b"x"})}
    s3.uploads = {"left over": (MINIDUMP_KEY, {1: b"x"}), **others}
    await send_large(s3, tmp_path)
    assert s3.uploads == others


@in_reactor
async def test_a_server_that_does_not_list_uploads_gets_large_dumps_too(s3: FakeS3, tmp_path: Path) -> None:
    s3.instead = lambda asked: refusal(403, "AccessDenied") if asked.method == "GET" else None
    await send_large(s3, tmp_path)
    assert RAW_CRASH_KEY in s3.objects


@in_reactor
async def test_a_large_file_that_has_changed_is_not_completed(s3: FakeS3, tmp_path: Path) -> None:
    crash = on_disk(tmp_path / "dump", os.urandom(LARGE))
    flip(tmp_path / "dump", LARGE - 1)
    storage = new_storage_of_parts(s3)
    assert "it was received with" in str(await error_of(storage.save(crash)))
    assert (s3.uploads, s3.objects) == ({}, {})
    await storage.close()


def test_the_list_of_parts_has_what_the_server_said_of_them() -> None:
    part = SentPart(Digests.of(b"x"), '"<&>"', "c2hh")
    text = s3parts._list_of([part, part]).decode()
    assert "<Part><PartNumber>2</PartNumber><ETag>&quot;&lt;&amp;&gt;&quot;</ETag>" in text
    assert "<ChecksumSHA256>c2hh</ChecksumSHA256>" in text


# Servers that fail


@first_quick(
    "failure",
    [refusal(503, "SlowDown"), Said(503), Said(429), Said(500), refusal(400, "RequestTimeout"), None],
    ids=["SlowDown", "503", "429", "500", "RequestTimeout", "hangs up"],
)
@in_reactor
async def test_a_busy_server_is_asked_again(s3: FakeS3, storage: BucketCrashStorage, failure: Said | None) -> None:
    left = [failure, failure]

    def fail_twice(asked: Asked) -> Said | None:
        if not left:
            return None
        if (said := left.pop()) is None:
            raise HangUp
        return said

    s3.instead = fail_twice
    await storage.save(make_crash())
    assert s3.steps() == [f"PUT {key}" for key in [MINIDUMP_KEY] * 2 + KEYS]


@in_reactor
async def test_a_server_that_stays_busy_is_an_error(s3: FakeS3, storage: BucketCrashStorage) -> None:
    s3.instead = lambda asked: refusal(503, "SlowDown", "Please reduce your request rate.")
    error = await error_of(storage.save(make_crash()))
    assert str(error) == "bucket crashes: SlowDown Please reduce your request rate."
    assert not isinstance(error, CrashRejectedByStore)
    assert len(s3.asked) == attempts.ATTEMPTS


@in_reactor
async def test_a_connection_that_was_closed_meanwhile_is_replaced(s3: FakeS3, storage: BucketCrashStorage) -> None:
    await storage.save(make_crash())
    s3.hang_up()
    await storage.save(make_crash())
    assert len(s3.asked) == 2 * len(KEYS)


PORTAL = b"<html><head><title>Hotel\n Wi-Fi: please log in</title></head><body>...</body></html>"
HTML = {"Content-Type": "text/html; charset=utf-8", "Server": "nginx/1.22.1"}


@first_quick(
    ("said", "told"),
    [
        (refusal(403, "AccessDenied", "Access\n Denied"), "AccessDenied Access Denied"),
        (refusal(403, "AccessDenied"), "AccessDenied (403 Forbidden)"),
        (Said(403), "PUT was answered with 403 Forbidden"),
        (Said(418, {"Server": "teapot"}, b"short and stout"), "with 418 I'm a Teapot by teapot: short and stout"),
        (
            Said(200, HTML, PORTAL),
            "PUT was answered with 200 OK by nginx/1.22.1: no object store, but a page: Hotel Wi-Fi: please log in",
        ),
        (Said(302, {"Location": "http://login.example/"}), "with 302 Found, a redirect to http://login.example/"),
        (Said(405, HTML, b"<h1>Not Allowed</h1>"), "no object store, but a page: Not Allowed"),
    ],
    ids=["S3", "no message", "no body", "text", "portal", "redirect", "page without a title"],
)
@in_reactor
async def test_whatever_answers_is_told_in_one_line(
    s3: FakeS3, storage: BucketCrashStorage, said: Said, told: str
) -> None:
    s3.instead = lambda asked: said
    for error in (await error_of(storage.save(make_crash())), await error_of(storage.check())):
        assert isinstance(error, StorageError)
        assert str(error).startswith("bucket crashes: ")
        assert told in str(error)
        assert "\n" not in str(error)


def _says(said: Said, asked: Asked) -> Said:
    return said


@in_reactor
async def test_a_page_does_not_say_that_a_crash_is_there_or_is_not(s3: FakeS3, storage: BucketCrashStorage) -> None:
    await storage.save(make_crash(dumps={MINIDUMP: b"MDMP"}))
    for said in (Said(200, HTML, PORTAL), Said(404, HTML, PORTAL)):
        s3.instead = partial(_says, said)
        for error in (await error_of(storage.fetch(CRASH_ID)), await error_of(storage.erase(CRASH_ID))):
            assert f"GET was answered with {said.status}" in str(error)
            assert "no object store, but a page: Hotel Wi-Fi: please log in" in str(error)
    s3.instead = lambda asked: None
    s3.after = lambda asked, said: with_headers(said, content_type="text/html")
    assert await storage.fetch(CRASH_ID) is not None
    assert await storage.erase(CRASH_ID)
    assert not await storage.erase(CRASH_ID)
    assert s3.objects == {}


@in_reactor
async def test_an_empty_page_is_an_answer_like_any_other(s3: FakeS3, storage: BucketCrashStorage) -> None:
    """Frameworks say C{text/html} where nobody has said anything else."""
    s3.after = lambda asked, said: with_headers(said, content_type="text/html")
    await storage.save(make_crash())
    assert RAW_CRASH_KEY in s3.objects


@pytest.mark.parametrize(
    ("date", "told"),
    [("Fri, 28 Nov 2036 00:00:00 GMT", " s behind)"), ("Fri, 28 Nov 2016 00:00:00 GMT", " s ahead)")],
)
@in_reactor
async def test_a_wrong_clock_is_told(s3: FakeS3, storage: BucketCrashStorage, date: str, told: str) -> None:
    message = "The difference between the request time and the current time is too large."
    s3.instead = lambda asked: refusal(403, "RequestTimeTooSkewed", message, Date=date)
    error = str(await error_of(storage.check()))
    assert f"RequestTimeTooSkewed {message} (the clock of this host is " in error
    assert told in error


@in_reactor
async def test_a_missing_bucket(s3: FakeS3) -> None:
    s3.bucket = "another"
    storage = new_storage(s3)
    assert "NoSuchBucket The specified bucket does not exist" in str(await error_of(storage.check()))
    await storage.close()


@first_quick(
    ("said", "kind"),
    [(refusal(403, "AccessDenied"), UnclearRefusal), (refusal(503, "SlowDown"), UnclearRefusal), (None, StorageError)],
    ids=["403", "503", "hangs up"],
)
@in_reactor
async def test_an_answer_may_be_about_this_crash_alone(
    s3: FakeS3, storage: BucketCrashStorage, said: Said | None, kind: type[Exception]
) -> None:
    """As an object that may not be replaced: it must not hold up the other crashes for ever."""

    def answer(asked: Asked) -> Said:
        if said is None:
            raise HangUp
        return said

    s3.instead = answer
    assert type(await error_of(storage.save(make_crash()))) is kind


@in_reactor
async def test_a_wrong_region_of_another_server_is_told(s3: FakeS3, storage: BucketCrashStorage) -> None:
    said = refusal(400, "AuthorizationHeaderMalformed", "expecting 'eu-west-1'", **{"x-amz-bucket-region": "eu-west-1"})
    s3.instead = lambda asked: said
    assert "(the bucket is in the region eu-west-1)" in str(await error_of(storage.check()))
    assert len(s3.asked) == 1


@in_reactor
async def test_amazon_s_region_of_the_bucket_is_found(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3client, "_amazons", lambda region: s3.url)
    storage = new_storage(s3, endpoint_url="", addressing_style="path")

    def redirect(asked: Asked) -> Said | None:
        if "/eu-west-1/s3/" in asked.headers["authorization"]:
            return None
        return refusal(301, "PermanentRedirect", **{"x-amz-bucket-region": "eu-west-1"})

    s3.instead = redirect
    for _ in range(2):
        await storage.save(make_crash(dumps={}))
    assert s3.steps() == [f"PUT {key}" for key in (NAMES_KEY, NAMES_KEY, RAW_CRASH_KEY, NAMES_KEY, RAW_CRASH_KEY)]
    await storage.close()


# Settings


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({}, {}),
        ({"acl": "bucket-owner-full-control"}, {"x-amz-acl": "bucket-owner-full-control"}),
        ({"storage_class": "STANDARD_IA"}, {"x-amz-storage-class": "STANDARD_IA"}),
        ({"server_side_encryption": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"server_side_encryption": "aws:kms", "sse_kms_key_id": "k"},
            {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "k"},
        ),
    ],
    ids=["none", "ACL", "storage class", "AES256", "KMS"],
)
@first_quick("large", [False, True], ids=["whole", "in parts"])
@in_reactor
async def test_settings_become_headers_of_each_object(
    s3: FakeS3, settings: dict[str, str], headers: dict[str, str], large: bool
) -> None:
    storage = new_storage_of_parts(s3, 5 if large else 5000, **settings)
    await storage.save(make_crash())
    assert list(s3.sent) == KEYS
    for sent in s3.sent.values():
        found = {name for name in sent if name.startswith(("x-amz-acl", "x-amz-storage", "x-amz-server"))}
        assert {name: sent[name] for name in found} == headers
        assert all(name in sent["authorization"] for name in headers)
    await storage.close()


@in_reactor
async def test_a_session_token_is_sent_and_signed(s3: FakeS3) -> None:
    await save_with(s3, session_token="a-while")
    for asked in s3.asked:
        assert asked.headers["x-amz-security-token"] == "a-while"
        assert "x-amz-security-token" in asked.headers["authorization"]


@in_reactor
async def test_a_profile_has_credentials_and_a_region(
    s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        "[profile crashes]\nregion = eu-central-1\naws_access_key_id = FROMFILE\naws_secret_access_key = secret\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    await save_with(s3, access_key="", secret_key="", profile="crashes")
    for asked in s3.asked:
        assert "Credential=FROMFILE/" in asked.headers["authorization"]
        assert "/eu-central-1/s3/aws4_request" in asked.headers["authorization"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [({}, "Unable to locate credentials"), ({"profile": "absent"}, "The config profile (absent) could not be found")],
    ids=["nowhere", "no profile"],
)
@in_reactor
async def test_without_credentials_nothing_is_sent(s3: FakeS3, settings: dict[str, str], told: str) -> None:
    storage = new_storage(s3, access_key="", secret_key="", **settings)
    assert str(await error_of(storage.check())) == f"bucket crashes: {told}"
    assert s3.asked == []
    await storage.close()


@in_reactor
async def test_a_bucket_in_the_name_of_the_host(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name C{localhost} may have names below it."""
    url = s3.url.replace("127.0.0.1", "localhost")
    monkeypatch.setattr(s3client, "_is_in_host", lambda settings, has_endpoint: True)
    storage = new_storage(s3, endpoint_url=url)
    error = await error_of(storage.check())
    host = f"crashes.{url.removeprefix('http://')}"
    assert (s3.asked and s3.asked[0].headers["host"] == host) or f"no connection to http://{host}" in str(error)
    await storage.close()


@for_each(
    ("bucket", "settings", "in_host"),
    [
        ("crashes", {}, True),
        ("crashes.example.com", {}, False),
        ("Crashes", {}, False),
        ("crashes", {"addressing_style": "path"}, False),
        ("crashes.example.com", {"addressing_style": "virtual"}, True),
        ("crashes", {"endpoint_url": "https://ceph.example"}, False),
        ("crashes", {"endpoint_url": "https://ceph.example", "addressing_style": "virtual"}, True),
    ],
)
def test_where_the_bucket_is(bucket: str, settings: dict[str, Any], in_host: bool) -> None:
    given = S3Settings(type="s3", bucket=bucket, **settings)
    assert s3client._is_in_host(given, bool(given.endpoint_url)) is in_host


@for_each(
    ("region", "url"),
    [
        ("us-east-1", "https://s3.us-east-1.amazonaws.com"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "https://s3.us-gov-west-1.amazonaws.com"),
    ],
)
def test_where_amazon_s_servers_are(region: str, url: str) -> None:
    assert s3client._amazons(region) == url


@for_each(
    ("settings", "message"),
    [
        ({"access_key": "A"}, "set both access_key and secret_key, or neither"),
        ({"session_token": "t"}, "session_token needs access_key and secret_key"),
        ({"session_token": "a\nb", "access_key": "A", "secret_key": "s"}, "should match pattern"),
        ({"profile": "p", "access_key": "A", "secret_key": "s"}, "set either profile or access_key"),
        ({"sse_kms_key_id": "k"}, "sse_kms_key_id needs"),
        ({"endpoint_url": "minio:9000"}, "must be http or https"),
        ({"endpoint_url": "http://minio:9000/crashes/"}, "must not end with the bucket"),
        ({"endpoint_url": "http://minio", "ca_file": "/x.pem"}, "ca_file needs an https endpoint_url"),
        ({"prefix": "/stage"}, "one slash between"),
        ({"bucket": "s3://crashes"}, "must be the name of a bucket alone"),
        ({"bucket": "arn:aws:s3:us-west-2:1:accesspoint:x"}, "alias of an access point"),
        ({"multipart_bytes": MIB}, "greater than or equal"),
        ({"addressing_style": "host"}, "'auto', 'path' or 'virtual'"),
        ({"acl": "all"}, "'bucket-owner-full-control'"),
        ({"storage_class": "GLACIER\r\n"}, "should match pattern"),
        ({"role_arn": "collectord"}, "should match pattern"),
    ],
)
def test_settings_that_can_t_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        S3Settings(type="s3", **{"bucket": "crashes", **settings})


def test_secrets_are_not_shown() -> None:
    settings = S3Settings(type="s3", bucket="crashes", access_key="A", secret_key="sesame", session_token="sesame")
    assert "sesame" not in repr(settings)


def test_a_ca_file_that_can_t_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name, told in (("empty.pem", "there is no PEM certificate in it"), ("absent.pem", "No such file")):
        settings = S3Settings(type="s3", bucket="crashes", ca_file=tmp_path / name)
        with pytest.raises(ConfigError, match=told):
            make(settings, PluginContext(reactor))


# Its life


@pytest.mark.slow
@in_reactor
async def test_cancelled_it_sends_no_further_object(s3: FakeS3, storage: BucketCrashStorage) -> None:
    came, may_go_on = Event(), Event()

    def wait(asked: Asked) -> Said | None:
        came.set()
        may_go_on.wait()
        return None

    s3.instead = wait
    saving = Deferred.fromCoroutine(storage.save(make_crash()))
    await deferToThread(came.wait)
    saving.cancel()
    with pytest.raises(CancelledError):
        await saving
    may_go_on.set()
    await storage.close()
    held = held_now()
    await assert_nothing_is_left(type(held)({name: n for name, n in held.items() if "thread s3://" not in name}))
    assert list(s3.objects) == [MINIDUMP_KEY]


@pytest.mark.parametrize("may_delete", [True, False], ids=["may delete", "may not"])
@in_reactor
async def test_a_check_stores_an_object_and_removes_it_where_it_may(
    s3: FakeS3, storage: BucketCrashStorage, may_delete: bool
) -> None:
    s3.instead = lambda asked: refusal(403, "AccessDenied") if asked.method == "DELETE" and not may_delete else None
    assert await storage.check() == {}
    assert [asked.method for asked in s3.asked] == ["PUT", "DELETE"]
    assert s3.asked[0].path == s3.asked[1].path
    assert s3.asked[0].path.startswith("/crashes/v1/check/")
    assert len(s3.objects) == (0 if may_delete else 1)


@pytest.mark.slow
@in_reactor
async def test_closed_it_leaves_no_thread_and_no_connection(s3: FakeS3) -> None:
    async def use_one() -> None:
        storage = new_storage(s3)
        await storage.check()
        await storage.close()
        await storage.close()

    await use_one()
    before = held_now()
    await use_one()
    await assert_nothing_is_left(before)
