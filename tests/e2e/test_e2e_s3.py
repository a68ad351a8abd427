"""
Crashes in S3: a server that asks for credentials, and what goes wrong on the way to it.
"""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from tracemalloc import get_traced_memory, start, stop
from typing import Any

import pytest
from attrs import define, evolve
from twisted.internet.defer import CancelledError

from collectord.errors import StorageError
from collectord.model import MINIDUMP
from collectord.plugins import PluginContext
from collectord.storage.objects.bucket import BucketCrashStorage
from collectord.storage.objects.s3 import S3
from collectord.storage.objects.s3settings import S3Settings
from collectord.testing import Destination, DestinationContract
from collectord.testing.destinations import Kept
from tests.support.buckets import MINIDUMP_KEY, NAMES_KEY, RAW_CRASH_KEY, erases, kept_in, on_disk, turn
from tests.support.certificates import make_certificate
from tests.support.daemon import free_port
from tests.support.fakes3 import Asked, FakeS3, Said, relayed_to
from tests.support.rcloneserver import RcloneServer
from tests.support.s3server import REGION, S3Server
from tests.support.slowlink import SlowLink
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

    def uploads(self) -> list[str]:
        """The keys of the multipart uploads that are under way."""
        client = self.server.client()
        try:
            listed = client.list_multipart_uploads(Bucket=BUCKET)
        except client.exceptions.NoSuchUpload:  # rclone, where there never was one
            return []
        return [upload["Key"] for upload in listed.get("Uploads", [])]


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
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Rig]:
    """A server to be killed."""
    with S3Server(tmp_path / "server.log") as server:
        server.client().create_bucket(Bucket=BUCKET)
        yield Rig(server)


@pytest.fixture(params=["moto", "rclone"])
def any_rig(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> Iterator[Rig]:
    """An empty bucket on each kind of server."""
    if request.param == "moto":
        yield rig
        return
    with RcloneServer(tmp_path / "rclone.log") as server:
        server.client().create_bucket(Bucket=BUCKET)
        yield Rig(server)


def is_of(asked: Asked, method: str, name: str) -> bool:
    """
    Tell whether a request has a method, and a name in its query.

    @param name: empty: the request has no query.
    """
    return asked.method == method and (name in asked.query if name else not asked.query)


class TestS3(DestinationContract):
    @pytest.fixture
    def destination(self, rig: Rig) -> Destination:
        async def kept(crash_id: str) -> Kept | None:
            return kept_in(rig.server.objects(BUCKET, crash_id), crash_id)

        return Destination(rig.store, kept, streams=False, unreachable=lambda: rig.store(bucket="absent"))


class TestS3OnRclone(DestinationContract):
    @pytest.fixture
    def destination(self, tmp_path: Path) -> Iterator[Destination]:
        with RcloneServer(tmp_path / "rclone.log") as server:
            rig = Rig(server)
            server.client().create_bucket(Bucket=BUCKET)

            async def kept(crash_id: str) -> Kept | None:
                return kept_in(server.objects(BUCKET, crash_id), crash_id)

            yield Destination(rig.store, kept, streams=False, unreachable=lambda: rig.store(bucket="absent"))


@in_reactor
async def test_the_raw_crash_comes_last(rig: Rig) -> None:
    before = len(rig.server.puts())
    await rig.store().save(make_crash())
    keys = [MINIDUMP_KEY, f"v1/extra_2/{CRASH_ID}", NAMES_KEY, RAW_CRASH_KEY]
    assert rig.server.puts()[before:] == [f"/{BUCKET}/{key}" for key in keys]


@in_reactor
async def test_a_crash_is_erased(any_rig: Rig) -> None:
    await erases(any_rig.store(), any_rig.objects)


@in_reactor
async def test_check_leaves_nothing(rig: Rig) -> None:
    assert await rig.store().check() == {}
    assert rig.objects() == {}


@pytest.mark.parametrize("size", [5 * MIB, 5 * MIB + 1, 21 * MIB + 7])
@in_reactor
async def test_big_dump(any_rig: Rig, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    crash = on_disk(tmp_path / "dump", content)
    store = any_rig.store(multipart_bytes=5 * MIB)
    for _ in range(2):
        await store.save(crash)
    assert any_rig.objects()[MINIDUMP_KEY] == content
    assert any_rig.uploads() == []


@in_reactor
async def test_a_part_that_has_arrived_is_not_sent_again(any_rig: Rig, tmp_path: Path) -> None:
    """Though the link breaks off in the middle of each of the last three parts."""
    content = os.urandom(30 * MIB)
    with SlowLink(any_rig.server.port) as link:
        store, crash = any_rig.store(endpoint_url=link.url), on_disk(tmp_path / "dump", content)
        link.breaks_after = 12 * MIB
        for _ in range(3):
            assert isinstance(await error_of(store.save(crash)), StorageError)
            link.breaks_after = 12 * MIB  # the rest of the part, and a half of the next one
        link.breaks_after = None
        await store.save(crash)
    assert any_rig.objects()[MINIDUMP_KEY] == content
    assert any_rig.uploads() == []
    assert link.sent < (30 + 3 * 4 + 1) * MIB


@in_reactor
async def test_an_upload_that_was_left_over_is_aborted_and_no_other(any_rig: Rig, tmp_path: Path) -> None:
    for key in (MINIDUMP_KEY, f"{MINIDUMP_KEY}2"):
        any_rig.server.client().create_multipart_upload(Bucket=BUCKET, Key=key)
    await any_rig.store(multipart_bytes=5 * MIB).save(on_disk(tmp_path / "dump", os.urandom(6 * MIB)))
    assert any_rig.uploads() == [f"{MINIDUMP_KEY}2"]


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
    ids=["secret", "key", "bucket", "name"],
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
async def test_credentials_of_the_environment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rig.server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rig.server.secret_key)
    await rig.store(access_key="", secret_key="").save(make_crash())
    assert RAW_CRASH_KEY in rig.objects()


@in_reactor
async def test_a_role_is_assumed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the token service at the same server. The requests are signed with what it gives."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", rig.server.url)
    arn = rig.server.role()
    with FakeS3(bucket=BUCKET) as fake:
        await rig.store(role_arn=arn, endpoint_url=fake.url).save(make_crash())
        for asked in fake.asked:
            assert asked.headers["x-amz-security-token"]
            assert rig.server.access_key not in asked.headers["authorization"]
    error = await error_of(rig.store(role_arn=arn, secret_key="wrong").check())
    assert str(error).startswith("bucket crashes: AssumeRole: SignatureDoesNotMatch ")


@in_reactor
async def test_down(rig: Rig) -> None:
    port = free_port()
    error = await error_of(rig.store(endpoint_url=f"http://127.0.0.1:{port}").save(make_crash()))
    assert isinstance(error, StorageError)
    assert str(error) == f"bucket crashes: no connection to http://127.0.0.1:{port} (Connection refused)"


@in_reactor
async def test_silent(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        error = await error_of(rig.store(endpoint_url=url, read_timeout_s=0.2).save(make_crash()))
    assert isinstance(error, StorageError)
    assert str(error) == f"bucket crashes: {url} did not answer within 0.2 s"


@pytest.mark.parametrize(
    ("method", "of", "call"),
    [("PUT", "", 3), ("PUT", "partNumber", 2), ("POST", "uploadId", 1)],
    ids=["put", "part", "completion"],
)
@in_reactor
async def test_killed_in_the_middle_and_back(own: Rig, tmp_path: Path, method: str, of: str, call: int) -> None:
    """And the same store goes on with it."""
    content, calls = os.urandom(20 * MIB), list[int]()
    crash = on_disk(tmp_path / "dump", content) if of else make_crash()

    def relay(asked: Asked) -> Said:
        calls.extend([1] * is_of(asked, method, of))
        if len(calls) == call and is_of(asked, method, of):
            own.server.kill()
        return relayed_to(own.server.port, asked)

    with FakeS3(bucket=BUCKET, instead=relay) as between:
        store = own.store(endpoint_url=between.url)
        assert isinstance(await error_of(store.save(crash)), StorageError)
        assert len(calls) == call + 2  # it was tried again
        own.server.start()
        own.server.client().create_bucket(Bucket=BUCKET)
        assert own.objects() == {}
        await store.save(crash)
    objects = own.objects()
    assert json.loads(objects[RAW_CRASH_KEY]) == crash.raw_crash
    assert objects[MINIDUMP_KEY] == (content if of else DUMPS[MINIDUMP])


@pytest.mark.parametrize("size", [100, 17 * MIB], ids=["whole", "in parts"])
@in_reactor
async def test_what_is_changed_on_the_way_is_not_kept(any_rig: Rig, tmp_path: Path, size: int) -> None:
    """moto takes it in spite of its checksums; what it says that it stored is another thing. rclone refuses it."""
    crash = on_disk(tmp_path / "dump", os.urandom(size))

    def relay(asked: Asked) -> Said:
        if asked.method == "PUT" and MINIDUMP_KEY in asked.path:
            asked = evolve(asked, body=asked.body[:-1] + bytes([asked.body[-1] ^ 1]))
        return relayed_to(any_rig.server.port, asked)

    with FakeS3(bucket=BUCKET, instead=relay) as between:
        error = await error_of(any_rig.store(endpoint_url=between.url).save(crash))
    assert isinstance(error, StorageError)
    assert "was stored with the ETag" in str(error) or "BadDigest" in str(error)
    assert RAW_CRASH_KEY not in any_rig.objects()
    assert any_rig.uploads() == []


@pytest.mark.parametrize("size", [100, 17 * MIB])
@in_reactor
async def test_kms(rig: Rig, tmp_path: Path, size: int) -> None:
    store = rig.store(server_side_encryption="aws:kms", sse_kms_key_id="some-key", storage_class="STANDARD_IA")
    await store.save(on_disk(tmp_path / "dump", os.urandom(size)))
    head = rig.server.client().head_object(Bucket=BUCKET, Key=MINIDUMP_KEY)
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"].endswith("some-key")
    assert head["StorageClass"] == "STANDARD_IA"


@pytest.mark.parametrize("size", [100, 30 * MIB], ids=["whole", "in parts"])
@in_reactor
async def test_cancelled(rig: Rig, tmp_path: Path, size: int) -> None:
    """Nothing more is sent, and the raw crash never."""
    reached, go_on = Event(), Event()
    crash = on_disk(tmp_path / "dump", os.urandom(size))

    def relay(asked: Asked) -> Said:
        if asked.method == "PUT" and CRASH_ID in asked.path:
            reached.set()
            assert go_on.wait(SOON)
        return relayed_to(rig.server.port, asked)

    with FakeS3(bucket=BUCKET, instead=relay) as between:
        store = rig.store(threads=1, endpoint_url=between.url)
        saving = started(store.save(crash))
        while not reached.is_set():
            await turn()
        saving.cancel()
        with pytest.raises(CancelledError):
            await saving
        go_on.set()
        await store.save(make_crash(NEIGHBOUR, dumps={}))  # the one thread has done with the other one
        assert [key for key in rig.objects() if CRASH_ID in key] == ([MINIDUMP_KEY] if size == 100 else [])
        assert rig.uploads() == ([] if size == 100 else [MINIDUMP_KEY])
        await store.save(crash)
        assert RAW_CRASH_KEY in rig.objects()
        assert rig.uploads() == []


@in_reactor
async def test_over_tls_with_certificates_of_one_s_own(rig: Rig, tmp_path: Path) -> None:
    make_certificate(tmp_path / "tls.pem", days=10)
    ca_file = str(tmp_path / "tls.pem")
    with FakeS3(bucket=BUCKET, certificate=tmp_path / "tls.pem") as fake:
        store, by_number = rig.store(endpoint_url=fake.url, ca_file=ca_file), fake.url.replace("localhost", "127.0.0.1")
        await store.save(make_crash())
        assert RAW_CRASH_KEY in fake.objects
        assert len(fake._connections) == 1
        await store.close()
        for other, why in (
            (rig.store(endpoint_url=fake.url), "is not trusted: self-signed certificate"),
            (rig.store(endpoint_url=by_number, ca_file=ca_file), "IP address mismatch"),
        ):
            error = str(await error_of(other.check()))
            assert error.startswith("bucket crashes: no connection to https://")
            assert why in error
            await other.close()
