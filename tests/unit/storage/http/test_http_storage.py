"""
A crash is kept by another collector only once that has answered its id; whatever else is answered is an error.
"""

import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from collectord.concurrency.tasks import gather
from collectord.errors import ConfigError, CrashRejectedByStore, StorageError, UnclearRefusal
from collectord.interfaces import ICrashStorage
from collectord.model import MINIDUMP, Content
from collectord.pieces import ReaderAt
from collectord.plugins import PluginContext
from collectord.storage.http.storage import HttpCrashStorage, HttpDestinationSettings, make
from tests.support.cases import first_quick, for_each
from tests.support.clocked import ClockedReactor
from tests.support.daemon import free_port
from tests.support.httpwire import WireServer, answer
from tests.unit.storage.stores import CRASH_ID, DUMPS, NEIGHBOUR, in_reactor, make_crash

T = TypeVar("T")

RECEIPT = answer(200, f"CrashID=bp-{CRASH_ID}\n".encode())
TOKEN = "a-secret"


@frozen
class Another:
    """Another collector, and what leads to it."""

    server: WireServer
    reactor: ClockedReactor
    made: list[HttpCrashStorage]

    def storage(self, path: str = "/submit", **settings: Any) -> HttpCrashStorage:
        given = HttpDestinationSettings(type="http", url=self.server.url(path), **settings)
        self.made.append(make(given, PluginContext(self.reactor, {"an id of a store": "/a", "another": "/b"})))
        return self.made[-1]


@pytest.fixture
def another(server: WireServer, clocked: ClockedReactor) -> Iterator[Another]:
    made = Another(server, clocked, [])
    yield made
    for storage in made.made:
        pytest_twisted.blockon(Deferred.fromCoroutine(storage.close()))
    assert clocked.getDelayedCalls() == []


async def error_of(work: Any) -> StorageError:
    with pytest.raises(StorageError) as told:
        await work
    return told.value


@in_reactor
async def test_a_crash_is_saved_once_its_id_is_answered(another: Another) -> None:
    another.server.answers = [None]
    storage = another.storage(token=TOKEN)
    verifyObject(ICrashStorage, storage)
    saving = Deferred.fromCoroutine(storage.save(make_crash(ProductName="Fenix")))
    await another.server.until(lambda: another.server.requests)
    assert not saving.called
    another.server.connections[0].transport.write(RECEIPT)  # type: ignore[union-attr]
    assert await saving == storage.name == another.server.url()
    (request,) = another.server.requests
    assert (request.method, request.target) == ("POST", "/submit")
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["x-collectord-stores"] == "an id of a store another"
    assert int(request.headers["content-length"]) == len(request.body)
    assert b'name="ProductName"\r\n' in request.body
    assert DUMPS[MINIDUMP] in request.body


@in_reactor
async def test_the_other_collector_may_have_a_page_for_each_crash(another: Another) -> None:
    another.server.answers = [answer(200, f"CrashID={CRASH_ID}\nViewURL=https://x.example/{CRASH_ID}\n".encode())]
    await another.storage().save(make_crash())


@in_reactor
async def test_without_a_token_no_store_is_named(another: Another) -> None:
    another.server.answers = [RECEIPT]
    await another.storage().save(make_crash())
    headers = another.server.requests[0].headers
    assert headers["authorization"] == "Bearer", "so that no other collectord takes the id for an annotation"
    assert not {"x-collectord-stores", "x-collectord-notes"} & headers.keys()


@in_reactor
async def test_a_report_can_be_compressed(another: Another) -> None:
    another.server.answers = [RECEIPT]
    await another.storage(gzip=True).save(make_crash())
    (request,) = another.server.requests
    assert request.headers["content-encoding"] == "gzip"
    assert DUMPS[MINIDUMP] in gzip.decompress(request.body)


@first_quick(
    ("status", "body", "kind", "said"),
    [
        (200, b"", UnclearRefusal, "answered 200"),
        (200, b"ok", UnclearRefusal, "answered 200 ok"),
        (200, f"CrashID=bp-{NEIGHBOUR}\n".encode(), UnclearRefusal, f"answered 200 CrashID=bp-{NEIGHBOUR}"),
        (200, f"CrashID={CRASH_ID} not".encode(), UnclearRefusal, "answered 200 CrashID="),
        (200, f"CrashID={CRASH_ID}\nnot".encode(), UnclearRefusal, "answered 200 CrashID="),
        (201, f"CrashID={CRASH_ID}\n".encode(), UnclearRefusal, "answered 201"),
        (200, b"Discarded=rule_throttle", CrashRejectedByStore, "answered 200 Discarded=rule_throttle"),
        (200, b"Unsupported=1", CrashRejectedByStore, "answered 200 Unsupported=1"),
        (400, b"Discarded=malformed_no_annotations", CrashRejectedByStore, "answered 400"),
        (413, b"", CrashRejectedByStore, "answered 413"),
        (415, b"", CrashRejectedByStore, "answered 415"),
        (431, b"", CrashRejectedByStore, "answered 431"),
        (401, b"no", UnclearRefusal, "answered 401 no: is the token right?"),
        (403, b"", UnclearRefusal, "answered 403"),
        (404, b"", UnclearRefusal, "answered 404"),
        (409, b"a circle", UnclearRefusal, "answered 409 a circle"),
        (503, b"no\r\n\x1b[31mroom", UnclearRefusal, "answered 503 no ?[31mroom"),
    ],
    ids=[
        "empty", "no receipt", "another id", "more than an id", "another line", "created", "throttled", "unsupported",
        "malformed", "too large", "wrong type", "long headers", "token", "forbidden", "absent", "circle", "busy",
    ],
)  # fmt: skip
@in_reactor
async def test_any_other_answer_is_an_error(
    another: Another, status: int, body: bytes, kind: type[Exception], said: str
) -> None:
    another.server.answers = [answer(status, body)]
    storage = another.storage()
    error = await error_of(storage.save(make_crash()))
    assert type(error) is kind
    assert str(error).startswith(f"{storage.name}: {said}")


@in_reactor
async def test_no_secret_is_told(another: Another) -> None:
    another.server.answers = [answer(404, b"no /s3cr3t?token=abcdef here")]
    error = await error_of(another.storage("/submit?token=abcdef", token=TOKEN).save(make_crash()))
    assert "abcdef" not in str(error)
    assert TOKEN not in str(error)


@in_reactor
async def test_an_answer_that_is_too_long_is_not_read_to_its_end(another: Another) -> None:
    another.server.answers = [answer(200, b"x" * 100_000)]
    error = await error_of(another.storage().save(make_crash()))
    assert "answered with more than 4096 bytes, so it is no collector" in str(error)
    await another.server.until(lambda: not another.server.connections)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "hung up before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nCrashID=", "hung up before its answer was complete"),
        (b"220 smtp.example.com ready\r\n", "its answer is no HTTP"),
    ],
    ids=["at once", "in the middle", "another protocol"],
)
@in_reactor
async def test_a_connection_that_ends_badly_is_an_error(another: Another, data: bytes, said: str) -> None:
    another.server.answers, another.server.hangs_up = [data], True
    assert said in str(await error_of(another.storage().save(make_crash())))
    assert len(another.server.requests) == 1  # it is not sent again: it may have been kept


@pytest.mark.slow
@in_reactor
async def test_nobody_listens(another: Another) -> None:
    settings = HttpDestinationSettings(type="http", url=f"http://127.0.0.1:{free_port()}/submit")
    storage = make(settings, PluginContext(reactor))
    assert "Connection refused" in str(await error_of(storage.save(make_crash())))
    assert "Connection refused" in str(await error_of(storage.check()))
    await storage.close()


@in_reactor
async def test_cancelled_it_lets_go_of_the_connection_and_the_next_crash_is_saved(another: Another) -> None:
    another.server.answers = [None, RECEIPT]
    storage = another.storage(connections=1)
    saving = Deferred.fromCoroutine(storage.save(make_crash()))
    await another.server.until(lambda: another.server.requests)
    saving.cancel()
    with pytest.raises(CancelledError):
        await saving
    await another.server.until(lambda: not another.server.connections)
    assert await storage.save(make_crash()) == storage.name


@in_reactor
async def test_crashes_share_so_many_connections_and_use_them_again(another: Another) -> None:
    another.server.answers = [None]
    storage = another.storage(connections=2)
    saving = [Deferred.fromCoroutine(storage.save(make_crash())) for _ in range(6)]
    await another.server.until(lambda: len(another.server.requests) == 2)
    another.server.answers = [RECEIPT]
    for connection in another.server.connections:
        connection.transport.write(RECEIPT)  # type: ignore[union-attr]
    assert await gather(saving) == [storage.name] * 6
    assert (len(another.server.requests), another.server.opened) == (6, 2)


@in_reactor
async def test_a_connection_that_is_idle_is_closed_and_not_used_again(another: Another) -> None:
    another.server.answers = [RECEIPT]
    storage = another.storage()
    await storage.save(make_crash())
    another.reactor.advance(10)
    await another.server.until(lambda: not another.server.connections)
    await storage.save(make_crash())
    assert another.server.opened == 2


@in_reactor
async def test_closed_it_lets_go_of_its_connections(another: Another) -> None:
    another.server.answers = [RECEIPT]
    storage = another.storage()
    await storage.save(make_crash())
    assert len(another.server.connections) == 1
    await storage.close()
    await another.server.until(lambda: not another.server.connections)
    await storage.close()


@frozen
class Broken:
    """A content that can't be read to its end."""

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"MDMP"
        raise StorageError("the disk is gone")

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        raise StorageError("the disk is gone")


@in_reactor
async def test_a_dump_that_can_not_be_read_is_not_posted(another: Another) -> None:
    another.server.answers = [RECEIPT]
    content: Content = Broken()
    error = await error_of(another.storage().save(make_crash(places={MINIDUMP: content})))
    assert "the disk is gone" in str(error)
    await another.server.until(lambda: not another.server.connections)
    assert another.server.requests == []


@pytest.mark.parametrize("status", [200, 404, 405])
@in_reactor
async def test_a_check_asks_whether_it_answers(another: Another, status: int) -> None:
    another.server.answers = [answer(status, b"x" * 10_000)]
    assert await another.storage(token=TOKEN).check() == {}
    (request,) = another.server.requests
    assert (request.method, request.body) == ("GET", b"")
    assert "authorization" not in request.headers


@in_reactor
async def test_a_check_of_one_that_is_not_well(another: Another) -> None:
    another.server.answers = [answer(503, b"no room")]
    storage = another.storage()
    assert str(await error_of(storage.check())) == f"{storage.name}: answered 503 no room"


@in_reactor
async def test_a_page_or_a_redirect_is_no_collector(another: Another) -> None:
    storage = another.storage()
    page = b"<html><head><title>Hotel Wi-Fi</title></head></html>"
    for data, said in (
        (answer(200, page, b"Content-Type: text/html"), "200 with a page (Hotel Wi-Fi), so it is no collector"),
        (answer(302, page, b"Location: http://127.0.0.1:9/login"), "302, a redirect, which is not followed"),
    ):
        another.server.answers = [data]
        for work in (storage.save(make_crash()), storage.check()):
            assert str(await error_of(work)) == f"{storage.name}: answered {said}"


@in_reactor
async def test_a_page_in_front_of_a_collector_is_told_by_its_version(another: Another) -> None:
    """Whatever stands in its place answers any path with a page. Nothing is posted that a collector might keep."""
    version, page = answer(200, b'{"source": "antenna"}'), answer(200, b"<!DOCTYPE html><title>Crashes</title>")
    for first in (page, answer(303, b"", b"Location: /about")):
        another.server.answers = [first, version]
        await another.storage("/crash/submit?key=abc").check()
    for path, asked in (("/submit/", "/__version__"), ("", "/__version__"), ("/crash/submit", "/crash/__version__")):
        another.server.answers = [page, version]
        await another.storage(path).check()
        assert another.server.requests[-1].target == asked
    assert {request.method for request in another.server.requests} == {"GET"}
    for second in (page, answer(404, b"{}"), answer(200, b"[]"), answer(200, b"[" * 4000), answer(200, b"1.0")):
        another.server.answers = [page, second]
        assert "with a page (Crashes), so it is no collector" in str(await error_of(another.storage().check()))


@pytest.mark.parametrize("stage", ["connecting", "waiting"])
@in_reactor
async def test_a_check_can_be_cancelled(another: Another, stage: str) -> None:
    another.server.answers = [None]
    checking = Deferred.fromCoroutine(another.storage().check())
    if stage == "waiting":
        await another.server.until(lambda: another.server.requests)
    checking.cancel()
    with suppress(CancelledError, StorageError):  # a name that is not looked up to the end is not found
        await checking
    await another.server.until(lambda: not another.server.connections)


@for_each(
    ("settings", "said"),
    [
        ({"ca_file": "/nowhere/a.pem"}, "ca_file = '/nowhere/a.pem'"),
        ({"ca_file": __file__}, "there is no PEM certificate in it"),
        ({"server_name": "a..b"}, "'a..b' can't be a host's name"),
    ],
    ids=["no file", "no certificate", "no name"],
)
def test_settings_that_can_not_be_used(settings: dict[str, Any], said: str) -> None:
    given = HttpDestinationSettings(type="http", url="https://127.0.0.1/submit", **settings)
    with pytest.raises(ConfigError, match=said):
        make(given, PluginContext(None))
