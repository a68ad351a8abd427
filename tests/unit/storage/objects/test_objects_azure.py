"""
A crash is kept by a container of Azure's once each object of it was stored as it was received, the raw crash last.
"""

import base64
import hashlib
import hmac
import json
import re
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import define, field
from pydantic import ValidationError
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from collectord.errors import ConfigError, CrashRejectedByStore
from collectord.interfaces import ICrashStorage
from collectord.model import MINIDUMP
from collectord.plugins import PluginContext
from collectord.storage.objects import attempts, azure
from collectord.storage.objects.azure import make
from collectord.storage.objects.azuresettings import AzureSettings
from collectord.storage.objects.azuresigning import Request, signature
from collectord.storage.objects.bucket import BucketCrashStorage
from collectord.testing.leaks import assert_nothing_is_left, held_now
from tests.support.buckets import MINIDUMP_KEY, NAMES_KEY, RAW_CRASH_KEY, flip, on_disk
from tests.support.cases import first_quick, for_each
from tests.support.fakes3 import Asked, FakeS3, HangUp, Said, refusal, with_headers
from tests.unit.storage.stores import CRASH_ID, DUMPS, error_of, in_reactor, make_crash

KEYS = [MINIDUMP_KEY, f"v1/extra_2/{CRASH_ID}", NAMES_KEY, RAW_CRASH_KEY]
ACCOUNT_KEY = base64.b64encode(b"key").decode()
LARGE = 11_000


def md5_of(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


@define(eq=False)
class FakeAzure:
    """
    Speaks as much of Azure's protocol as uploads and removals need. It refuses bodies with another MD5.

    @ivar objects: by key, in the order in which they came.
    @ivar left: as many of the next requests are answered with these.
    """

    server: FakeS3
    objects: dict[str, bytes] = field(factory=dict)
    md5s: dict[str, str] = field(factory=dict)
    blocks: dict[str, bytes] = field(factory=dict)
    left: list[Said | None] = field(factory=list)

    def answer(self, asked: Asked) -> Said:
        if self.left:
            if (said := self.left.pop()) is None:
                raise HangUp
            return said
        key = asked.path.removeprefix("/account/crashes/")
        if asked.headers.get("content-md5", md5_of(asked.body)) != md5_of(asked.body):
            return refusal(400, "Md5Mismatch", "The MD5 value did not match.\nRequestId:1\nTime:2")
        match asked.method, asked.query.get("comp"):
            case "PUT", "block":
                self.blocks[asked.query["blockid"]] = asked.body
            case "PUT", "blocklist":
                names = re.findall("<Latest>(.*?)</Latest>", asked.body.decode())
                self.objects[key] = b"".join(self.blocks[name] for name in names)
                self.md5s[key] = asked.headers["x-ms-blob-content-md5"]
                self.blocks.clear()
                return Said(201)
            case "PUT", _:
                self.objects[key], self.md5s[key] = asked.body, md5_of(asked.body)
            case "GET", "blocklist":
                listed = "".join(f"<Block><Name>{name}</Name></Block>" for name in self.blocks)
                return Said(body=f"<BlockList><UncommittedBlocks>{listed}</UncommittedBlocks></BlockList>".encode())
            case "HEAD", _ if key not in self.objects:
                return Said(404)
            case "HEAD", _:
                size = str(len(self.objects[key]))
                return Said(200, {"content-length": size, "content-md5": self.md5s[key]})
            case _:
                del self.objects[key]
                return Said(202)
        return Said(201, {"content-md5": md5_of(asked.body)})


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(azure, "_BLOCK", 8000)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[FakeAzure]:
    with FakeS3() as server:
        fake = FakeAzure(server)
        server.instead = fake.answer
        yield fake


@pytest.fixture
def storage(fake: FakeAzure) -> Iterator[BucketCrashStorage]:
    made = new_storage(fake)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


def settings_of(**settings: Any) -> AzureSettings:
    return AzureSettings(type="azure", **{"account": "account", "container": "crashes", **settings})


def new_storage(fake: FakeAzure, **settings: Any) -> BucketCrashStorage:
    given = {"endpoint_url": f"{fake.server.url}/account", **(settings or {"account_key": ACCOUNT_KEY})}
    storage = make(settings_of(**given), PluginContext(reactor))
    storage._bucket._multipart_bytes = 5000  # type: ignore[attr-defined]
    return storage


@in_reactor
async def test_a_crash_is_objects_and_the_raw_crash_comes_last(fake: FakeAzure, storage: BucketCrashStorage) -> None:
    verifyObject(ICrashStorage, storage)
    crash = make_crash()
    assert await storage.save(crash) == storage.name == "azure://account/crashes"
    assert list(fake.objects) == KEYS
    assert fake.objects[MINIDUMP_KEY] == DUMPS[MINIDUMP]
    assert json.loads(fake.objects[RAW_CRASH_KEY]) == crash.raw_crash
    assert all(asked.headers["x-ms-blob-type"] == "BlockBlob" for asked in fake.server.asked)
    assert len(fake.server._connections) == 1


@in_reactor
async def test_a_large_dump_is_sent_in_blocks_and_looked_at(
    fake: FakeAzure, storage: BucketCrashStorage, tmp_path: Path
) -> None:
    content = bytes(range(256)) * (LARGE // 256)
    await storage.save(on_disk(tmp_path / "dump", content))
    assert fake.objects[MINIDUMP_KEY] == content
    steps = [(asked.method, asked.query.get("comp")) for asked in fake.server.asked]
    blocks = [("PUT", "block"), ("PUT", "block"), ("PUT", "blocklist"), ("HEAD", None)]
    assert steps == [("GET", "blocklist"), *blocks, ("PUT", None), ("PUT", None)]


def fails_at(fake: FakeAzure, number: int) -> None:
    """From now on the server refuses all from this request on."""
    count = iter(range(1000))
    fake.server.instead = lambda asked: fake.answer(asked) if next(count) < number else Said(403)


@pytest.mark.parametrize("same_process", [True, False], ids=["the same process", "another one"])
@in_reactor
async def test_blocks_that_have_arrived_are_not_sent_again(
    fake: FakeAzure, storage: BucketCrashStorage, tmp_path: Path, same_process: bool
) -> None:
    content = bytes(range(256)) * (LARGE // 256)
    crash = on_disk(tmp_path / "dump", content)
    fails_at(fake, 2)
    await error_of(storage.save(crash))
    fake.server.asked.clear()
    fake.server.instead = fake.answer
    then = storage if same_process else new_storage(fake)
    await then.save(crash)
    sent = [len(asked.body) for asked in fake.server.asked if asked.query.get("comp") == "block"]
    assert sent == [len(content) - 8000]
    assert fake.objects[MINIDUMP_KEY] == content
    if not same_process:
        await then.close()


@in_reactor
async def test_blocks_of_another_content_are_sent_again(
    fake: FakeAzure, storage: BucketCrashStorage, tmp_path: Path
) -> None:
    fails_at(fake, 2)
    await error_of(storage.save(on_disk(tmp_path / "dump", b"x" * LARGE)))
    fake.server.instead = fake.answer
    await storage.save(on_disk(tmp_path / "dump", b"y" * LARGE))
    assert fake.objects[MINIDUMP_KEY] == b"y" * LARGE


@pytest.mark.parametrize("is_there", [True, False], ids=["there", "gone"])
@in_reactor
async def test_an_object_that_was_stored_is_sent_again_only_if_it_is_gone(
    fake: FakeAzure, storage: BucketCrashStorage, is_there: bool
) -> None:
    fails_at(fake, 2)
    await error_of(storage.save(make_crash()))
    fake.server.asked.clear()
    fake.server.instead = fake.answer
    if not is_there:
        del fake.objects[MINIDUMP_KEY]
    await storage.save(make_crash())
    assert sorted(fake.objects) == sorted(KEYS)
    sent = [asked for asked in fake.server.asked if asked.method == "PUT"]
    assert len(sent) == (2 if is_there else 3)


@pytest.mark.parametrize("size", [100, LARGE], ids=["whole", "in blocks"])
@in_reactor
async def test_an_object_that_was_stored_as_another_is_the_trouble_of_its_crash(
    fake: FakeAzure, storage: BucketCrashStorage, tmp_path: Path, size: int
) -> None:
    fake.server.instead = lambda asked: with_headers(fake.answer(asked), content_md5=md5_of(b"another"))
    error = await error_of(storage.save(on_disk(tmp_path / "dump", b"x" * size)))
    assert isinstance(error, CrashRejectedByStore)
    assert f"container crashes: the dump {MINIDUMP} was stored with the MD5 " in str(error)
    assert RAW_CRASH_KEY not in fake.objects


@in_reactor
async def test_blocks_that_are_not_all_there_are_the_trouble_of_their_crash(
    fake: FakeAzure, storage: BucketCrashStorage, tmp_path: Path
) -> None:
    fake.server.instead = lambda asked: (
        Said(200, {"content-length": "3"}) if asked.method == "HEAD" else fake.answer(asked)
    )
    error = await error_of(storage.save(on_disk(tmp_path / "dump", b"x" * LARGE)))
    assert isinstance(error, CrashRejectedByStore)
    assert f"was stored with 3 bytes; it should be {LARGE}" in str(error)


@in_reactor
async def test_without_an_md5_in_the_answer_the_object_is_looked_at(
    fake: FakeAzure, storage: BucketCrashStorage
) -> None:
    fake.server.instead = lambda asked: with_headers(fake.answer(asked), content_md5=None)
    await storage.save(make_crash())
    assert [asked.method for asked in fake.server.asked] == ["PUT", "HEAD"] * len(KEYS)


@in_reactor
async def test_a_body_that_changes_on_the_way_is_refused(fake: FakeAzure, storage: BucketCrashStorage) -> None:
    def spoil(asked: Asked) -> Said:
        object.__setattr__(asked, "body", asked.body + b"!")
        return fake.answer(asked)

    fake.server.instead = spoil
    assert str(await error_of(storage.save(make_crash()))) == (
        "container crashes: Md5Mismatch The MD5 value did not match."
    )
    assert fake.objects == {}


@pytest.mark.parametrize("size", [100, LARGE], ids=["whole", "in blocks"])
@in_reactor
async def test_a_dump_that_has_changed_is_not_kept(
    fake: FakeAzure, storage: BucketCrashStorage, tmp_path: Path, size: int
) -> None:
    crash = on_disk(tmp_path / "dump", b"x" * size)
    flip(tmp_path / "dump", size - 1)
    assert "it was received with" in str(await error_of(storage.save(crash)))
    assert fake.objects == {}


@first_quick("failure", [refusal(503, "ServerBusy"), Said(500), None], ids=["busy", "500", "hangs up"])
@in_reactor
async def test_a_busy_server_is_asked_again(fake: FakeAzure, storage: BucketCrashStorage, failure: Said | None) -> None:
    fake.left = [failure, failure]
    await storage.save(make_crash())
    assert list(fake.objects) == KEYS


@in_reactor
async def test_a_check_stores_an_object_and_removes_it(fake: FakeAzure, storage: BucketCrashStorage) -> None:
    assert await storage.check() == {}
    assert [asked.method for asked in fake.server.asked] == ["PUT", "DELETE"]
    assert fake.objects == {}


@in_reactor
async def test_an_error_without_a_body_has_its_code(fake: FakeAzure, storage: BucketCrashStorage) -> None:
    fake.left = [Said(404, {"x-ms-error-code": "ContainerNotFound"})]
    assert str(await error_of(storage.check())) == "container crashes: ContainerNotFound (404 Not Found)"


@in_reactor
async def test_whatever_answers_in_its_place_is_told_in_one_line(fake: FakeAzure, storage: BucketCrashStorage) -> None:
    page = b"<html><head><title>Hotel\n Wi-Fi</title></head></html>"
    portal = Said(200, {"Content-Type": "text/html", "Server": "nginx"}, page)
    created = Said(201, {"Content-Type": "text/html", "Server": "nginx"}, page)
    login = Said(302, {"Location": "http://login.example/"})
    for said, told in (
        (portal, "200 OK by nginx: no object store, but a page: Hotel Wi-Fi"),
        (created, "201 Created by nginx: no object store, but a page: Hotel Wi-Fi"),
        (login, "302 Found, a redirect to http://login.example/, without a message"),
    ):
        for work in (storage.save(make_crash()), storage.check()):
            fake.left = [said] * 9
            assert str(await error_of(work)) == f"container crashes: PUT was answered with {told}"
    assert fake.objects == {}


@in_reactor
async def test_a_wrong_clock_is_told_of_keys_that_are_refused(fake: FakeAzure, storage: BucketCrashStorage) -> None:
    for seconds, said in ((3600, "s behind)"), (-3600, "s ahead)"), (10, "AuthenticationFailed (403 Forbidden)")):
        date = formatdate(time.time() + seconds, usegmt=True)
        fake.left = [Said(403, {"x-ms-error-code": "AuthenticationFailed", "Date": date})]
        error = str(await error_of(storage.check()))
        assert error.endswith(said), error
        assert ("the clock of this host is" in error) == (abs(seconds) > 10)


def test_requests_are_signed_with_the_key_of_the_account() -> None:
    """As the client of Microsoft signs them."""
    headers = {"x-ms-date": "Fri, 26 Jun 2015 23:39:12 GMT", "x-ms-version": "2015-02-21", "content-length": "0"}
    query = {"restype": "container", "timeout": "30", "comp": "metadata"}
    request = Request("GET", "/mycontainer", query, headers)
    text = (
        "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:30"
    )
    expected = base64.b64encode(hmac.digest(b"key", text.encode(), "sha256")).decode()
    assert signature(request, settings_of(account="myaccount"), b"key") == expected


@in_reactor
async def test_a_shared_access_signature_is_in_the_query(fake: FakeAzure) -> None:
    storage = new_storage(fake, sas_token="?sv=1&sig=a%2Fb")
    await storage.save(make_crash(dumps={}))
    for asked in fake.server.asked:
        assert asked.target.endswith("?sv=1&sig=a%2Fb")
        assert "authorization" not in asked.headers
    fake.left = [Said(403)]
    assert "sig" not in str(await error_of(storage.check()))
    await storage.close()


@in_reactor
async def test_an_access_tier_is_sent(fake: FakeAzure) -> None:
    storage = new_storage(fake, sas_token="x", access_tier="Cool")
    await storage.save(make_crash(dumps={}))
    assert {asked.headers["x-ms-access-tier"] for asked in fake.server.asked} == {"Cool"}
    await storage.close()


def test_without_its_client_the_identity_service_can_t_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'collectord[azure]'")):
        make(settings_of(), PluginContext(reactor))


@for_each(
    ("settings", "message"),
    [
        ({"account": "Not_An_Account"}, "should match pattern"),
        ({"container": "Crashes"}, "should match pattern"),
        ({"account_key": "not base64!"}, "is no Base64"),
        ({"account_key": ACCOUNT_KEY, "sas_token": "x"}, "either account_key or sas_token"),
        ({"endpoint_url": "azurite:10000"}, "must be https or http"),
        ({"endpoint_url": "https://x/?sig=y"}, "must be https or http"),
        ({"endpoint_url": "http://x", "ca_file": "/x.pem"}, "ca_file needs an https endpoint_url"),
        ({"access_tier": "Archive"}, "'Hot', 'Cool' or 'Cold'"),
    ],
)
def test_settings_that_can_t_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of(**settings)


def test_secrets_are_not_shown() -> None:
    assert ACCOUNT_KEY not in repr(settings_of(account_key=ACCOUNT_KEY))
    assert "sesame" not in repr(settings_of(sas_token="sesame"))


@in_reactor
async def test_closed_it_leaves_no_thread_and_no_connection(fake: FakeAzure) -> None:
    async def use_one() -> None:
        storage = new_storage(fake)
        await storage.check()
        await storage.close()
        await storage.close()

    await use_one()
    before = held_now()
    await use_one()
    await assert_nothing_is_left(before)
