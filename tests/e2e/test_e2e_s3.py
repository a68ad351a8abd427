"""
Crashes in S3: a server that asks for credentials, and what goes wrong on the way to it.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from tracemalloc import get_traced_memory, start, stop
from typing import Any

import pytest
from attrs import define, evolve
from pydantic import ValidationError
from twisted.internet.defer import CancelledError

from collectord.errors import StorageError
from collectord.model import MINIDUMP
from collectord.plugins import PluginContext
from collectord.storage.objects.bucket import BucketCrashStorage
from collectord.storage.objects.s3 import S3, S3Settings
from collectord.testing import Destination, DestinationContract
from collectord.testing.destinations import Kept
from tests.support.buckets import MINIDUMP_KEY, NAMES_KEY, RAW_CRASH_KEY, flip, kept_in, on_disk, turn
from tests.support.daemon import free_port
from tests.support.s3server import REGION, S3Server
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    NEIGHBOUR,
    SOON,
    error_of,
    in_reactor,
    logged_failures,
    make_crash,
    started,
)

__all__ = ["logged_failures"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

BUCKET = "crashes"
MIB = 1024 * 1024


@define
class Rig:
    """A server, and stores that use it."""

    server: S3Server

    def store(self, **settings: Any) -> BucketCrashStorage:
        given = {
            "bucket": BUCKET,
            "endpoint_url": self.server.url,
            "region": REGION,
            "access_key": self.server.access_key,
            "secret_key": self.server.secret_key,
            **settings,
        }
        from twisted.internet import reactor

        store: BucketCrashStorage = S3.make(S3Settings(type="s3", **given), PluginContext(reactor))
        return store

    def objects(self) -> dict[str, bytes]:
        return self.server.objects(BUCKET)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3") / "server.log") as server:
        yield server


@pytest.fixture
def rig(server: S3Server) -> Iterator[Rig]:
    """The server that all tests share, with an empty bucket."""
    client = server.client()
    client.create_bucket(Bucket=BUCKET)
    yield Rig(server)
    for key in server.objects(BUCKET):
        client.delete_object(Bucket=BUCKET, Key=key)
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Rig]:
    """A server to be killed."""
    with S3Server(tmp_path / "server.log") as server:
        server.client().create_bucket(Bucket=BUCKET)
        yield Rig(server)


def hook(store: Any, event: str, handler: Callable[..., Any]) -> None:
    """Let botocore call C{handler} in the midst of the requests of C{store}."""
    store._bucket._client().meta.events.register(event, handler)


class TestS3(DestinationContract):
    @pytest.fixture
    def destination(self, rig: Rig) -> Destination:
        async def kept(crash_id: str) -> Kept | None:
            return kept_in(rig.server.objects(BUCKET, crash_id), crash_id)

        return Destination(rig.store, kept, streams=False, unreachable=lambda: rig.store(bucket="absent"))


@in_reactor
async def test_layout(rig: Rig) -> None:
    """What a Socorro processor reads, and the raw crash last."""
    crash, before = make_crash(), len(rig.server.puts())
    assert await rig.store().save(crash) == "s3://crashes"
    objects = rig.objects()
    assert json.loads(objects.pop(RAW_CRASH_KEY)) == crash.raw_crash
    assert json.loads(objects.pop(NAMES_KEY)) == [MINIDUMP, "extra_2"]
    assert objects == {MINIDUMP_KEY: DUMPS[MINIDUMP], f"v1/extra_2/{CRASH_ID}": DUMPS["extra_2"]}
    keys = [MINIDUMP_KEY, f"v1/extra_2/{CRASH_ID}", NAMES_KEY, RAW_CRASH_KEY]
    assert rig.server.puts()[before:] == [f"/{BUCKET}/{key}" for key in keys]


@in_reactor
async def test_no_dumps_have_names_too(rig: Rig) -> None:
    await rig.store().save(make_crash(dumps={}))
    assert set(rig.objects()) == {NAMES_KEY, RAW_CRASH_KEY}
    assert rig.objects()[NAMES_KEY] == b"[]"


@in_reactor
async def test_prefix(rig: Rig) -> None:
    await rig.store(prefix="stage").save(make_crash(dumps={}))
    assert set(rig.objects()) == {f"stage/{NAMES_KEY}", f"stage/{RAW_CRASH_KEY}"}


@in_reactor
async def test_check_leaves_nothing(rig: Rig) -> None:
    before = len(rig.server.puts())
    assert await rig.store().check() == {}
    (put,) = rig.server.puts()[before:]
    assert put.startswith(f"/{BUCKET}/v1/check/")
    assert rig.objects() == {}


@pytest.mark.parametrize("size", [5 * MIB, 5 * MIB + 1, 21 * MIB + 7])
@in_reactor
async def test_big_dump(rig: Rig, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    crash = on_disk(tmp_path / "dump", content)
    store = rig.store(multipart_bytes=5 * MIB)
    parts: list[int] = []
    hook(store, "before-call.s3.UploadPart", lambda params, **_: parts.append(1))
    for _ in range(2):
        await store.save(crash)
    assert rig.objects()[MINIDUMP_KEY] == content
    assert len(parts) == 2 * (0 if size == 5 * MIB else -(-size // (8 * MIB)))
    assert rig.server.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


@in_reactor
async def test_a_file_is_streamed(rig: Rig, tmp_path: Path) -> None:
    crash, store = on_disk(tmp_path / "dump", os.urandom(16 * MIB)), rig.store()
    await store.check()
    start()
    try:
        await store.save(crash)
        assert get_traced_memory()[1] < 6 * MIB
    finally:
        stop()
    assert len(rig.objects()[MINIDUMP_KEY]) == 16 * MIB


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"secret_key": "wrong"}, "bucket crashes: SignatureDoesNotMatch The request signature"),
        ({"access_key": "AKIANOBODY"}, "bucket crashes: InvalidAccessKeyId"),
        ({"bucket": "nowhere"}, "bucket nowhere: NoSuchBucket The specified bucket does not exist"),
        ({"bucket": "no_bucket!"}, "bucket no_bucket!: "),
    ],
)
@in_reactor
async def test_refused(rig: Rig, settings: dict[str, str], message: str) -> None:
    store = rig.store(**settings)
    for error in (await error_of(store.save(make_crash())), await error_of(store.check())):
        assert isinstance(error, StorageError)
        assert str(error).startswith(message)
        assert "\n" not in str(error)
    assert rig.objects() == {}


@in_reactor
async def test_no_credentials(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    error = await error_of(rig.store(access_key="", secret_key="").save(make_crash()))
    assert isinstance(error, StorageError)
    assert str(error) == "bucket crashes: Unable to locate credentials"


@in_reactor
async def test_credentials_of_the_environment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rig.server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rig.server.secret_key)
    await rig.store(access_key="", secret_key="").save(make_crash())
    assert RAW_CRASH_KEY in rig.objects()


@in_reactor
async def test_down(rig: Rig) -> None:
    port = free_port()
    error = await error_of(rig.store(endpoint_url=f"http://127.0.0.1:{port}").save(make_crash()))
    assert isinstance(error, StorageError)
    assert str(error).startswith(f'bucket crashes: Could not connect to the endpoint URL: "http://127.0.0.1:{port}/')


@in_reactor
async def test_silent(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        error = await error_of(rig.store(endpoint_url=url, read_timeout_s=0.2).save(make_crash()))
    assert isinstance(error, StorageError)
    assert "Read timeout" in str(error)


@pytest.mark.parametrize(("operation", "call"), [("PutObject", 3), ("UploadPart", 2), ("CompleteMultipartUpload", 1)])
@in_reactor
async def test_killed_in_the_middle_and_back(own: Rig, tmp_path: Path, operation: str, call: int) -> None:
    """And the same store goes on with it."""
    store, content, calls = own.store(), os.urandom(20 * MIB), list[int]()
    crash = on_disk(tmp_path / "dump", content)

    def kill(**_: Any) -> None:
        calls.append(1)
        if len(calls) == call:
            own.server.kill()

    await store.check()
    hook(store, f"before-call.s3.{operation}", kill)
    if operation == "PutObject":
        crash = make_crash()
    assert isinstance(await error_of(store.save(crash)), StorageError)
    assert len(calls) == call
    own.server.start()
    own.server.client().create_bucket(Bucket=BUCKET)
    assert own.objects() == {}
    await store.save(crash)
    objects = own.objects()
    assert json.loads(objects[RAW_CRASH_KEY]) == crash.raw_crash
    assert objects[MINIDUMP_KEY] == (DUMPS[MINIDUMP] if operation == "PutObject" else content)


@pytest.mark.parametrize("size", [100, 20 * MIB])
@in_reactor
async def test_changed_since_it_was_loaded(rig: Rig, tmp_path: Path, size: int) -> None:
    crash = on_disk(tmp_path / "dump", os.urandom(size))
    flip(tmp_path / "dump", size // 2)
    error = await error_of(rig.store().save(crash))
    assert isinstance(error, StorageError)
    assert f"bucket crashes: the dump {MINIDUMP} has the checksum" in str(error)
    assert rig.objects() == {}
    assert rig.server.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


@in_reactor
async def test_changed_while_it_is_sent(rig: Rig, tmp_path: Path) -> None:
    """moto takes it in spite of its checksums; what it says that it stored is another thing."""
    crash, store = on_disk(tmp_path / "dump", b"MDMP" * 100), rig.store()
    hook(store, "before-parameter-build.s3.PutObject", lambda **_: flip(tmp_path / "dump", 100))
    error = await error_of(store.save(crash))
    assert isinstance(error, StorageError)
    assert "was stored with the ETag" in str(error)
    assert RAW_CRASH_KEY not in rig.objects()


@pytest.mark.parametrize(
    ("operation", "key", "settings"),
    [
        ("PutObject", "ETag", {}),
        ("PutObject", "ChecksumSHA256", {}),
        ("PutObject", "ChecksumSHA256", {"server_side_encryption": "aws:kms"}),
        ("UploadPart", "ETag", {}),
        ("UploadPart", "ChecksumSHA256", {}),
        ("CompleteMultipartUpload", "ETag", {}),
    ],
)
@in_reactor
async def test_something_else_was_stored(
    rig: Rig, tmp_path: Path, operation: str, key: str, settings: dict[str, str]
) -> None:
    big = operation != "PutObject"
    crash, store = on_disk(tmp_path / "dump", os.urandom(17 * MIB if big else 100)), rig.store(**settings)

    def change(parsed: dict[str, Any], **_: Any) -> None:
        parsed[key] = '"00000000000000000000000000000000"'

    hook(store, f"after-call.s3.{operation}", change)
    error = await error_of(store.save(crash))
    assert isinstance(error, StorageError)
    assert f"the dump {MINIDUMP} was stored with the " in str(error)
    assert RAW_CRASH_KEY not in rig.objects()
    assert rig.server.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


@pytest.mark.parametrize("size", [100, 17 * MIB])
@in_reactor
async def test_kms(rig: Rig, tmp_path: Path, size: int) -> None:
    """With keys of its key service an ETag is no MD5."""
    store = rig.store(server_side_encryption="aws:kms", sse_kms_key_id="some-key")

    def change(parsed: dict[str, Any], **_: Any) -> None:
        parsed["ETag"] = '"00000000000000000000000000000000"'
        parsed["ServerSideEncryption"] = "aws:kms"

    for operation in ("PutObject", "CompleteMultipartUpload"):
        hook(store, f"after-call.s3.{operation}", change)
    await store.save(on_disk(tmp_path / "dump", os.urandom(size)))
    head = rig.server.client().head_object(Bucket=BUCKET, Key=MINIDUMP_KEY)
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"].endswith("some-key")


@pytest.mark.parametrize("size", [100, 30 * MIB])
@in_reactor
async def test_cancelled(rig: Rig, tmp_path: Path, size: int) -> None:
    """Nothing more is sent, and the raw crash never."""
    store, reached, go_on = rig.store(threads=1), Event(), Event()
    crash = on_disk(tmp_path / "dump", os.urandom(size))

    def hang(**_: Any) -> None:
        reached.set()
        assert go_on.wait(SOON)

    for operation in ("PutObject", "UploadPart"):
        hook(store, f"before-call.s3.{operation}", hang)
    saving = started(store.save(crash))
    while not reached.is_set():
        await turn()
    saving.cancel()
    with pytest.raises(CancelledError):
        await saving
    go_on.set()
    await store.save(make_crash(NEIGHBOUR, dumps={}))  # the one thread has done with the other one
    assert [key for key in rig.objects() if CRASH_ID in key] == ([MINIDUMP_KEY] if size == 100 else [])
    assert rig.server.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []
    await store.save(crash)
    assert RAW_CRASH_KEY in rig.objects()


@in_reactor
async def test_a_dump_that_is_gone(rig: Rig, tmp_path: Path) -> None:
    crash = on_disk(tmp_path / "dump", b"MDMP")
    (tmp_path / "dump").unlink()
    error = await error_of(rig.store().save(crash))
    assert isinstance(error, StorageError)
    assert f"the dump {MINIDUMP} can't be read: [Errno 2] No such file" in str(error)
    whole = evolve(crash, dumps=make_crash(dumps={}).dumps)
    await rig.store().save(whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"access_key": "A"}, "set both access_key and secret_key, or neither"),
        ({"sse_kms_key_id": "k"}, "sse_kms_key_id needs"),
        ({"endpoint_url": "minio:9000"}, "must be http://"),
        ({"prefix": "/stage"}, "one slash between"),
        ({"bucket": "s3://crashes"}, "should match pattern"),
        ({"multipart_bytes": MIB}, "greater than or equal"),
    ],
)
def test_settings_that_can_t_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        S3Settings(type="s3", **{"bucket": BUCKET, **settings})


def test_the_secret_is_not_shown() -> None:
    assert "sesame" not in repr(S3Settings(type="s3", bucket=BUCKET, access_key="A", secret_key="sesame"))
