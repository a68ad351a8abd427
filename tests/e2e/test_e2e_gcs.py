"""
Crashes in Google Cloud Storage: an emulator, and what goes wrong on the way to it.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from tracemalloc import get_traced_memory, start, stop
from typing import Any

import pytest
from attrs import frozen
from google.cloud.storage.blob import Blob
from pydantic import ValidationError
from requests import ConnectionError as RequestsConnectionError
from requests import Response, Session
from twisted.internet.defer import CancelledError

from collectord.errors import StorageError
from collectord.model import MINIDUMP
from collectord.plugins import PluginContext
from collectord.storage.objects.bucket import BucketCrashStorage
from collectord.storage.objects.gcs import GCS, GcsSettings
from collectord.testing import Destination, DestinationContract
from collectord.testing.destinations import Kept
from tests.support.buckets import MINIDUMP_KEY, NAMES_KEY, RAW_CRASH_KEY, erases, flip, kept_in, on_disk, turn
from tests.support.daemon import free_port
from tests.support.gcsserver import GcsServer
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


def make_store(**settings: Any) -> BucketCrashStorage:
    """On the server of C{STORAGE_EMULATOR_HOST}."""
    from twisted.internet import reactor

    given = GcsSettings(type="gcs", **{"bucket": BUCKET, "retry_s": 1, **settings})
    store: BucketCrashStorage = GCS.make(given, PluginContext(reactor))
    return store


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    with GcsServer(tmp_path / "server.log", BUCKET) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server


@frozen
class Refusing:
    """A server that answers every request alike."""

    status: int
    message: str

    def __enter__(self) -> str:
        body = json.dumps({"error": {"code": self.status, "message": self.message}}, indent=1).encode()
        status = self.status

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    def __exit__(self, *args: object) -> None:
        pass


def around(patch: pytest.MonkeyPatch, owner: type, name: str, happen: Callable[[Any, Callable[[], Any]], Any]) -> None:
    """Let C{happen} do what a method of the client does; it gets the object, and how to do it."""
    real = getattr(owner, name)
    patch.setattr(owner, name, lambda self, *args, **kw: happen(self, lambda: real(self, *args, **kw)))


class TestGcs(DestinationContract):
    @pytest.fixture
    def destination(self, server: GcsServer) -> Destination:
        async def kept(crash_id: str) -> Kept | None:
            return kept_in(server.objects(), crash_id)

        return Destination(make_store, kept, streams=False, unreachable=lambda: make_store(bucket="absent"))


@in_reactor
async def test_layout(server: GcsServer) -> None:
    """What a Socorro processor reads, and the raw crash last."""
    crash = make_crash()
    assert await make_store().save(crash) == "gs://crashes"
    objects = server.objects()
    assert list(objects) == [MINIDUMP_KEY, f"v1/extra_2/{CRASH_ID}", NAMES_KEY, RAW_CRASH_KEY]
    assert json.loads(objects[RAW_CRASH_KEY]) == crash.raw_crash
    assert json.loads(objects[NAMES_KEY]) == [MINIDUMP, "extra_2"]
    assert objects[MINIDUMP_KEY] == DUMPS[MINIDUMP]
    assert objects[f"v1/extra_2/{CRASH_ID}"] == DUMPS["extra_2"]


@in_reactor
async def test_no_dumps_have_names_too(server: GcsServer) -> None:
    await make_store().save(make_crash(dumps={}))
    objects = server.objects()
    assert list(objects) == [NAMES_KEY, RAW_CRASH_KEY]
    assert objects[NAMES_KEY] == b"[]"


@in_reactor
async def test_prefix(server: GcsServer) -> None:
    await make_store(prefix="stage/").save(make_crash(dumps={}))
    assert list(server.objects()) == [f"stage/{NAMES_KEY}", f"stage/{RAW_CRASH_KEY}"]


@in_reactor
async def test_a_crash_is_erased(server: GcsServer) -> None:
    await erases(make_store(), server.objects)


@in_reactor
async def test_check_leaves_nothing(server: GcsServer) -> None:
    assert await make_store().check() == {}
    assert server.objects() == {}


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB + 1, 21 * MIB + 7])
@in_reactor
async def test_big_dump(server: GcsServer, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    crash, store = on_disk(tmp_path / "dump", content), make_store()
    for _ in range(2):
        await store.save(crash)
    assert server.objects()[MINIDUMP_KEY] == content


@in_reactor
async def test_a_file_is_sent_in_chunks(server: GcsServer, tmp_path: Path) -> None:
    crash, store = on_disk(tmp_path / "dump", os.urandom(60 * MIB)), make_store()
    await store.check()
    start()
    try:
        await store.save(crash)
        assert get_traced_memory()[1] < 30 * MIB
    finally:
        stop()
    assert len(server.objects()[MINIDUMP_KEY]) == 60 * MIB


@in_reactor
async def test_no_bucket(server: GcsServer) -> None:
    store = make_store(bucket="nowhere")
    for error in (await error_of(store.save(make_crash())), await error_of(store.check())):
        assert isinstance(error, StorageError)
        assert str(error).startswith("bucket nowhere: POST was answered with 404 Not Found")


@in_reactor
async def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with Refusing(403, "somebody does not have\nstorage.objects.create access") as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        error = await error_of(make_store().save(make_crash()))
    assert isinstance(error, StorageError)
    assert str(error) == "bucket crashes: 403 Forbidden somebody does not have storage.objects.create access"


@in_reactor
async def test_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again for so long, and no longer."""
    with Refusing(503, "try later") as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        error = await error_of(make_store(retry_s=2).save(make_crash()))
    assert isinstance(error, StorageError)
    assert str(error) == "bucket crashes: 503 Service Unavailable try later"


@in_reactor
async def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent.json")
    error = await error_of(make_store().save(make_crash()))
    assert isinstance(error, StorageError)
    assert str(error) == "bucket crashes: File /nonexistent.json was not found."


@in_reactor
async def test_down(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    error = await error_of(make_store().save(make_crash()))
    assert isinstance(error, StorageError)
    assert str(error) == f"bucket crashes: no connection to http://127.0.0.1:{port} (Connection refused)"


@in_reactor
async def test_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        error = await error_of(make_store(read_timeout_s=0.2).save(make_crash()))
    assert isinstance(error, StorageError)
    assert "did not answer within 0.2 s" in str(error)


@pytest.mark.parametrize(("owner", "name", "call"), [(Blob, "upload_from_file", 3), (Session, "put", 2)])
@in_reactor
async def test_killed_in_the_middle_and_back(
    server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int
) -> None:
    """And the same store goes on with it."""
    content, calls = os.urandom(20 * MIB), list[int]()
    crash, store = on_disk(tmp_path / "dump", content), make_store()
    if owner is Blob:
        crash = make_crash()

    def kill(_: Any, do: Callable[[], Any]) -> Any:
        calls.append(1)
        if len(calls) == call:
            server.kill()
        return do()

    with monkeypatch.context() as patch:
        around(patch, owner, name, kill)
        assert isinstance(await error_of(store.save(crash)), StorageError)
    assert len(calls) >= call
    server.start()
    assert server.objects() == {}
    await store.save(crash)
    objects = server.objects()
    assert json.loads(objects[RAW_CRASH_KEY]) == crash.raw_crash
    assert objects[MINIDUMP_KEY] == (DUMPS[MINIDUMP] if owner is Blob else content)


def with_a_broken_link(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ranges that are sent from now on; the second one does not arrive."""
    ranges, real = list[str](), Session.put

    def put(session: Session, *args: Any, **kwargs: Any) -> Response:
        ranges.append(kwargs["headers"]["Content-Range"])
        if len(ranges) == 2:
            raise RequestsConnectionError("the link is down")
        return real(session, *args, **kwargs)

    monkeypatch.setattr(Session, "put", put)
    return ranges


@in_reactor
async def test_what_has_arrived_is_not_sent_again(
    server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, ranges = os.urandom(20 * MIB), with_a_broken_link(monkeypatch)
    crash, store = on_disk(tmp_path / "dump", content), make_store(retry_s=0)
    assert "the link is down" in str(await error_of(store.save(crash)))
    await store.save(crash)
    chunks = [
        f"bytes 0-8388607/{20 * MIB}",
        f"bytes 8388608-16777215/{20 * MIB}",
        f"bytes 16777216-20971519/{20 * MIB}",
    ]
    assert ranges == [*chunks[:2], f"bytes */{20 * MIB}", *chunks[1:]]
    assert server.objects()[MINIDUMP_KEY] == content


@in_reactor
async def test_another_process_begins_anew_and_neither_harms_the_other(
    server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, ranges = os.urandom(20 * MIB), with_a_broken_link(monkeypatch)
    crash, one, other = on_disk(tmp_path / "dump", content), make_store(retry_s=0), make_store()
    assert "the link is down" in str(await error_of(one.save(crash)))
    await other.save(crash)
    assert len(ranges) == 2 + 3
    assert server.objects()[MINIDUMP_KEY] == content
    await one.save(crash)
    assert server.objects()[MINIDUMP_KEY] == content


@pytest.mark.parametrize("size", [100, 20 * MIB])
@in_reactor
async def test_changed_since_it_was_loaded(server: GcsServer, tmp_path: Path, size: int) -> None:
    crash = on_disk(tmp_path / "dump", os.urandom(size))
    flip(tmp_path / "dump", size // 2)
    error = await error_of(make_store().save(crash))
    assert isinstance(error, StorageError)
    assert f"bucket crashes: the dump {MINIDUMP} has the checksum" in str(error)
    assert server.objects() == {}


@pytest.mark.parametrize("size", [100, 20 * MIB])
@in_reactor
async def test_changed_while_it_is_sent(
    server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    crash = on_disk(tmp_path / "dump", os.urandom(size))

    def change(_: Any, do: Callable[[], Any]) -> Any:
        flip(tmp_path / "dump", size // 2)
        return do()

    name = "upload_from_file" if size == 100 else "create_resumable_upload_session"
    around(monkeypatch, Blob, name, change)
    assert isinstance(await error_of(make_store().save(crash)), StorageError)
    assert server.objects() == {}


@pytest.mark.parametrize("key", ["md5Hash", "crc32c"])
@pytest.mark.parametrize("value", ["AAAAAA==", None])
@in_reactor
async def test_something_else_was_stored(
    server: GcsServer, monkeypatch: pytest.MonkeyPatch, key: str, value: str | None
) -> None:
    def change(blob: Any, do: Callable[[], Any]) -> None:
        do()
        blob._properties[key] = value

    around(monkeypatch, Blob, "upload_from_file", change)
    error = await error_of(make_store().save(make_crash()))
    assert isinstance(error, StorageError)
    assert f"the dump {MINIDUMP} was stored with the " in str(error)
    assert RAW_CRASH_KEY not in server.objects()


@pytest.mark.parametrize(("owner", "name"), [(Blob, "create_resumable_upload_session"), (Session, "put")])
@in_reactor
async def test_cancelled(
    server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """Nothing more is sent, and the raw crash never."""
    store, reached, go_on = make_store(threads=1), Event(), Event()
    crash = on_disk(tmp_path / "dump", os.urandom(30 * MIB))

    def hang(_: Any, do: Callable[[], Any]) -> Any:
        reached.set()
        assert go_on.wait(SOON)
        return do()

    with monkeypatch.context() as patch:
        around(patch, owner, name, hang)
        saving = started(store.save(crash))
        while not reached.is_set():
            await turn()
        saving.cancel()
        with pytest.raises(CancelledError):
            await saving
        go_on.set()
        await store.save(make_crash(NEIGHBOUR, dumps={}))  # the one thread has done with the other one
    assert [key for key in server.objects() if CRASH_ID in key] == []
    await store.save(crash)
    assert RAW_CRASH_KEY in server.objects()


def test_settings_that_can_t_be_used() -> None:
    with pytest.raises(ValidationError, match="must be the name of a bucket alone"):
        GcsSettings(type="gcs", bucket="gs://crashes")
    with pytest.raises(ValidationError, match="Extra inputs"):
        GcsSettings(type="gcs", bucket=BUCKET, region="eu")  # type: ignore[call-arg]
