"""
A crash is kept by a bucket of Google's once each object of it was stored as it was received, the raw crash last.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import define, field
from google.auth.exceptions import RefreshError
from google_crc32c import Checksum
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from collectord.errors import StorageError
from collectord.interfaces import ICrashStorage
from collectord.model import MINIDUMP, Crash
from collectord.plugins import PluginContext
from collectord.storage.objects.bucket import BucketCrashStorage
from collectord.storage.objects.gcs import GcsSettings, make
from collectord.storage.objects.gcsanswers import in_words
from collectord.testing.leaks import assert_nothing_is_left, held_now
from tests.support.buckets import on_disk
from tests.support.cases import first_quick
from tests.support.daemon import free_port
from tests.support.httpwire import WireServer, answer
from tests.support.wirefixtures import server
from tests.unit.storage.stores import CRASH_ID, DUMPS, in_reactor, make_crash

__all__ = ["server"]


@define(eq=False)
class FakeGcs:
    """
    Speaks as much of Google's JSON interface as uploads and removals need, on threads.

    @ivar objects: by key, in the order in which they came.
    @ivar refuses: a status and a message for every request; None: it works.
    @ivar refuses_key: a key that nothing is stored by.
    @ivar forges: what it says of an object besides, or instead.
    @ivar may_go_on: an upload waits for it.
    @ivar begun: the objects whose uploads in chunks have begun, and what has arrived of each.
    @ivar ranges: of the chunks that came, as they were said, and of the questions how much has arrived.
    @ivar hangs_up_at: the one of them, counted from 1, that is not answered; if it completes an object, it is stored.
    @ivar answers: a status for each such request, instead of doing it.
    """

    objects: dict[str, bytes] = field(factory=dict)
    deleted: list[str] = field(factory=list)
    uploads: int = 0
    refuses: tuple[int, str] | None = None
    refuses_key: str = ""
    refuses_removals: bool = False
    forges: dict[str, str] = field(factory=dict)
    may_go_on: Event = field(factory=Event)
    came: Event = field(factory=Event)
    begun: dict[str, tuple[dict[str, str], bytearray]] = field(factory=dict)
    ranges: list[str] = field(factory=list)
    hangs_up_at: int = 0
    answers: int = 0
    _server: Any = None

    def __enter__(self) -> "FakeGcs":
        fake = self
        self.may_go_on.set()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body go together: nobody waits for a delayed acknowledgement of the head

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fake.came.set()
                fake.may_go_on.wait()
                fake.uploads += 1
                if fake.refuses is not None:
                    self._answer(fake.refuses[0], {"error": {"message": fake.refuses[1]}})
                    return
                if "uploadType=resumable" in self.path:
                    address = f"{fake.url}{self.path}&upload_id=secret{len(fake.begun)}"
                    fake.begun[address.rpartition("=")[2]] = json.loads(body), bytearray()
                    self._answer(200, {}, Location=address)
                    return
                boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
                _, about, content, _ = body.split(b"--" + boundary)
                described = json.loads(about.partition(b"\r\n\r\n")[2])
                data = content.partition(b"\r\n\r\n")[2][:-2]
                if described["name"] == fake.refuses_key:
                    self._answer(403, {"error": {"message": "no"}})
                    return
                fake.objects[described["name"]] = data
                self._answer(200, described | digests(data) | fake.forges)

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                said = self.headers["Content-Range"].removeprefix("bytes ")
                fake.ranges.append(said)
                upload_id = self.path.rpartition("=")[2]
                if fake.answers or upload_id not in fake.begun:
                    self._answer(fake.answers or 404, None)
                    return
                described, arrived = fake.begun[upload_id]
                hangs_up, size = len(fake.ranges) == fake.hangs_up_at, int(said.rpartition("/")[2])
                if body and not (hangs_up and len(arrived) + len(body) < size):
                    assert said.startswith(f"{len(arrived)}-")
                    arrived += body
                if len(arrived) == size:
                    fake.objects[described["name"]] = bytes(arrived)
                if hangs_up:
                    self.close_connection = True
                elif len(arrived) == size:
                    self._answer(200, described | digests(bytes(arrived)) | fake.forges)
                else:
                    self._answer(308, None, **({"Range": f"bytes=0-{len(arrived) - 1}"} if arrived else {}))

            def do_GET(self) -> None:
                key = unquote(self.path.rpartition("/o/")[2].partition("?")[0])
                if key in fake.objects:
                    self._answer(200, {"name": key} | digests(fake.objects[key]))
                else:
                    self._answer(404, {"error": {"message": "no such object"}})

            def do_DELETE(self) -> None:
                if fake.refuses_removals:
                    self._answer(403, {"error": {"message": "no"}})
                    return
                key = unquote(self.path.rpartition("/o/")[2].partition("?")[0])
                fake.deleted.append(key)
                del fake.objects[key]
                self._answer(204, None)

            def _answer(self, status: int, value: object, **headers: str) -> None:
                body = b"" if value is None else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for name, said in headers.items():
                    self.send_header(name, said)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, args=(0.002,), daemon=True).start()
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *args: object) -> None:
        self.may_go_on.set()
        self._server.shutdown()
        self._server.server_close()


def digests(data: bytes) -> dict[str, str]:
    crc32c = Checksum(data)
    return {
        "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
        "crc32c": base64.b64encode(crc32c.digest()).decode(),
    }


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with FakeGcs() as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        yield fake


@pytest.fixture
def storage(gcs: FakeGcs) -> Iterator[BucketCrashStorage]:
    made = new_storage()
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


def new_storage(**settings: Any) -> BucketCrashStorage:
    given = GcsSettings(type="gcs", bucket="crashes", retry_s=0, **settings)
    return make(given, PluginContext(reactor))


async def error_of(work: Any) -> str:
    with pytest.raises(StorageError) as told:
        await work
    return str(told.value)


RAW_CRASH = f"v1/raw_crash/20160622/{CRASH_ID}"


@in_reactor
async def test_a_crash_is_objects_and_the_raw_crash_comes_last(gcs: FakeGcs, storage: BucketCrashStorage) -> None:
    verifyObject(ICrashStorage, storage)
    crash = make_crash()
    assert await storage.save(crash) == storage.name == "gs://crashes"
    keys = [f"v1/dump/{CRASH_ID}", f"v1/extra_2/{CRASH_ID}", f"v1/dump_names/{CRASH_ID}", RAW_CRASH]
    assert list(gcs.objects) == keys
    assert gcs.objects[keys[0]] == DUMPS[MINIDUMP]
    assert json.loads(gcs.objects[keys[2]]) == [MINIDUMP, "extra_2"]
    assert json.loads(gcs.objects[RAW_CRASH]) == crash.raw_crash


@pytest.mark.parametrize("is_there", ["there", "gone", "another"])
@in_reactor
async def test_an_object_that_was_stored_is_sent_again_only_if_it_is_not_surely_there(
    gcs: FakeGcs, storage: BucketCrashStorage, is_there: str
) -> None:
    key = f"v1/dump/{CRASH_ID}"
    gcs.refuses_key = f"v1/dump_names/{CRASH_ID}"
    await error_of(storage.save(make_crash()))
    gcs.refuses_key = ""
    if is_there != "there":
        gcs.objects.pop(key)
    if is_there == "another":
        gcs.objects[key] = b"another"
    before = gcs.uploads
    await storage.save(make_crash())
    assert gcs.objects[key] == DUMPS[MINIDUMP]
    assert gcs.uploads - before == (2 if is_there == "there" else 3)


@in_reactor
async def test_a_prefix_is_before_every_key(gcs: FakeGcs) -> None:
    storage = new_storage(prefix="stage")
    await storage.save(make_crash(dumps={}))
    assert list(gcs.objects) == [f"stage/v1/dump_names/{CRASH_ID}", f"stage/{RAW_CRASH}"]
    await storage.close()


@first_quick(
    ("status", "said"),
    [(403, "403 Forbidden you may not"), (404, "404 NotFound you may not"), (400, "400 BadRequest you may not")],
)
@in_reactor
async def test_what_google_refuses_is_not_kept(
    gcs: FakeGcs, storage: BucketCrashStorage, status: int, said: str
) -> None:
    gcs.refuses = status, "you\n may not"
    assert said in await error_of(storage.save(make_crash()))
    assert said in await error_of(storage.check())
    assert gcs.objects == {}


PAGE = b"<html><head><title>Hotel Wi-Fi: please log in</title></head></html>"
HTML = b"Content-Type: text/html"
IN_GOOGLES_PLACE = (
    (
        answer(200, PAGE, HTML, b"Server: nginx/1.22"),
        "200 Whatever by nginx/1.22: no object store, but a page: Hotel Wi-Fi: ",
    ),
    (answer(511, PAGE, HTML), "511 Whatever: no object store, but a page: Hotel Wi-Fi: please log in"),
    (answer(404, PAGE, HTML), "404 Whatever: no object store, but a page: Hotel Wi-Fi: please log in"),
    (answer(302, b"", b"Location: http://127.0.0.1:9/login"), "302 Whatever, a redirect to http://127.0.0.1:9/login"),
    (answer(307, b"", b"Location: http://127.0.0.1:9/login"), "307 Whatever, a redirect to http://127.0.0.1:9/login"),
    (answer(502, b"nobody is there"), "502 Whatever: nobody is there"),
    (answer(407), "407 Whatever, without a message"),
)


@in_reactor
async def test_what_answers_in_googles_place_is_told_in_one_line_and_nothing_is_sent_on(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url("").rstrip("/"))
    storage = new_storage()
    for data, said in IN_GOOGLES_PLACE:
        server.answers = [data]
        for work, method in (
            (storage.save(make_crash()), "POST"),
            (storage.check(), "POST"),
            (storage.fetch(CRASH_ID), "GET"),
            (storage.erase(CRASH_ID), "GET"),
        ):
            assert f"bucket crashes: {method} was answered with {said}" in await error_of(work), (data, method)
    for data in (b"OK", b"", b"[]"):
        server.answers = [answer(200, data)]
        assert "POST was answered with 200 Whatever" in await error_of(storage.save(make_crash())), data
    await storage.close()


@in_reactor
async def test_a_bucket_that_is_not_there_is_no_crash_that_is_not_there(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url("").rstrip("/"))
    storage = new_storage()
    server.answers = [answer(404, b"No such object: crashes/v1", HTML)]
    assert await storage.fetch(CRASH_ID) is None
    server.answers = [answer(404, b"The specified bucket does not exist.", HTML)]
    assert "The specified bucket does not exist." in await error_of(storage.fetch(CRASH_ID))
    await storage.close()


def test_credentials_that_google_refuses_are_told_in_one_line() -> None:
    answer = {"error": "invalid_grant"}
    revoked = RefreshError("invalid_grant:\nToken has been expired or revoked.", answer)
    assert in_words(revoked, 5.0, 30.0) == "invalid_grant: Token has been expired or revoked."
    late = RefreshError("invalid_grant: Check your iat and exp values.", answer)
    assert in_words(late, 5.0, 30.0).endswith("values. (is the clock of this host right?)")


@in_reactor
async def test_a_connection_that_fails_is_told_in_one_line(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.url("").rstrip("/")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    storage = new_storage(read_timeout_s=0.05)
    server.answers = [None]
    assert await error_of(storage.check()) == f"bucket crashes: {url} did not answer within 0.05 s"
    server.answers, server.hangs_up = [b""], True
    assert await error_of(storage.check()) == f"bucket crashes: {url} hung up before its answer was complete"
    await storage.close()
    nobody = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", nobody)
    storage = new_storage()
    assert await error_of(storage.check()) == f"bucket crashes: no connection to {nobody} (Connection refused)"
    await storage.close()


MIB = 2**20
BIG = 17 * MIB
CHUNKS = [f"0-{8 * MIB - 1}/{BIG}", f"{8 * MIB}-{16 * MIB - 1}/{BIG}", f"{16 * MIB}-{BIG - 1}/{BIG}"]
ASKS = f"*/{BIG}"
BIG_KEY = f"v1/dump/{CRASH_ID}"


def big_crash(letter: bytes = b"x") -> Crash:
    return make_crash(dumps={MINIDUMP: letter * BIG})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hangs_up_at", "sent_then"),
    [(1, [ASKS, *CHUNKS]), (2, [ASKS, *CHUNKS[1:]]), (3, [ASKS])],
    ids=["the first chunk", "the second chunk", "the answer"],
)
@in_reactor
async def test_of_a_large_object_what_has_arrived_is_not_sent_again(
    gcs: FakeGcs, storage: BucketCrashStorage, hangs_up_at: int, sent_then: list[str]
) -> None:
    gcs.hangs_up_at = hangs_up_at
    said = await error_of(storage.save(big_crash()))
    assert "secret" not in said
    assert gcs.ranges == CHUNKS[:hangs_up_at]
    assert RAW_CRASH not in gcs.objects
    gcs.ranges.clear()
    gcs.hangs_up_at = 0
    await storage.save(big_crash())
    assert gcs.ranges == sent_then
    assert gcs.objects[BIG_KEY] == b"x" * BIG
    assert len(gcs.begun) == 1
    assert RAW_CRASH in gcs.objects


@pytest.mark.slow
@in_reactor
async def test_another_content_of_a_large_object_is_another_upload(gcs: FakeGcs, storage: BucketCrashStorage) -> None:
    gcs.hangs_up_at = 2
    await error_of(storage.save(big_crash()))
    gcs.ranges.clear()
    gcs.hangs_up_at = 0
    await storage.save(big_crash(b"y"))
    assert gcs.ranges == CHUNKS
    assert gcs.objects[BIG_KEY] == b"y" * BIG


@pytest.mark.slow
@in_reactor
async def test_an_upload_that_google_has_forgotten_begins_anew_at_once(
    gcs: FakeGcs, storage: BucketCrashStorage
) -> None:
    gcs.hangs_up_at = 2
    await error_of(storage.save(big_crash()))
    gcs.begun.clear()
    gcs.ranges.clear()
    gcs.hangs_up_at = 0
    await storage.save(big_crash())
    assert gcs.ranges == [ASKS, *CHUNKS]
    assert gcs.objects[BIG_KEY] == b"x" * BIG


@pytest.mark.slow
@in_reactor
async def test_an_upload_to_which_nothing_can_be_added_is_given_up(gcs: FakeGcs, storage: BucketCrashStorage) -> None:
    gcs.answers = 500
    for attempt in range(3):
        assert "500" in await error_of(storage.save(big_crash())), attempt
        assert len(gcs.begun) == 1
    gcs.answers = 0
    await storage.save(big_crash())
    assert len(gcs.begun) == 2
    assert gcs.objects[BIG_KEY] == b"x" * BIG


@pytest.mark.parametrize("kind", ["md5Hash", "crc32c"])
@in_reactor
async def test_an_object_that_was_stored_as_another_is_an_error_and_no_raw_crash_follows(
    gcs: FakeGcs, storage: BucketCrashStorage, kind: str
) -> None:
    gcs.forges = {kind: digests(b"something else")[kind]}
    assert "was stored with the" in await error_of(storage.save(make_crash()))
    assert RAW_CRASH not in gcs.objects


@in_reactor
async def test_a_dump_that_is_no_longer_what_was_received_is_not_sent(
    gcs: FakeGcs, storage: BucketCrashStorage, tmp_path: Path
) -> None:
    crash = on_disk(tmp_path / "dump", b"MDMP")
    object.__setattr__(crash.dumps[0], "sha256", "0" * 64)
    assert "it was received with 000" in await error_of(storage.save(crash))
    assert gcs.objects == {}


@pytest.mark.slow
@in_reactor
async def test_cancelled_it_sends_no_further_object(gcs: FakeGcs, storage: BucketCrashStorage) -> None:
    gcs.may_go_on.clear()
    saving = Deferred.fromCoroutine(storage.save(make_crash()))
    await deferToThread(gcs.came.wait)
    saving.cancel()
    with pytest.raises(CancelledError):
        await saving
    gcs.may_go_on.set()
    await storage.close()
    await assert_nothing_is_left(without_workers())
    assert (gcs.uploads, list(gcs.objects)) == (1, [f"v1/dump/{CRASH_ID}"])


def without_workers() -> Any:
    """What this process holds, but for the threads of the bucket."""
    held = held_now()
    for name in [name for name in held if name.startswith("thread gs://")]:
        del held[name]
    return held


@pytest.mark.parametrize("may_delete", [True, False], ids=["may delete", "may not"])
@in_reactor
async def test_a_check_stores_an_object_and_removes_it_where_it_may(
    gcs: FakeGcs, storage: BucketCrashStorage, may_delete: bool
) -> None:
    gcs.refuses_removals = not may_delete
    assert await storage.check() == {}
    assert gcs.uploads == 1
    assert [key.startswith("v1/check/") for key in gcs.deleted] == ([True] if may_delete else [])


@pytest.mark.slow
@in_reactor
async def test_closed_it_leaves_no_thread_and_no_connection(gcs: FakeGcs) -> None:
    async def use_one() -> None:
        storage = new_storage()
        await storage.check()
        await storage.close()
        await storage.close()

    await use_one()
    before = held_now()
    await use_one()
    await assert_nothing_is_left(before)
