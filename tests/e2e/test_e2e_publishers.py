"""
Publishers against real queues, which are killed, stopped and brought back.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import grpc
import pytest
from redis import Redis
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from collectord.concurrency.tasks import gather
from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.testing import Publisher, PublisherContract, make_crash
from collectord.testing.running import in_reactor
from tests.support.brokers import (
    RabbitServer,
    RedisServer,
    SentinelServer,
    delete_queue,
    make_queue,
    missing,
    rabbit_server,
    rabbitmq_url,
    taken_from,
)
from tests.support.certificates import Authority
from tests.support.daemon import free_port
from tests.support.pubsubserver import Topics, serving_topics

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

NO_RABBITMQ = missing("rabbitmq-server", "setpriv")
NO_REDIS = missing("redis-server", "redis-sentinel")


def publisher(**table: Any) -> ICrashPublisher:
    made: ICrashPublisher = make_plugin(PUBLISHERS, table, PluginContext(reactor), "here").instance
    return made


# ——— RabbitMQ ———


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    if NO_RABBITMQ:
        pytest.skip(NO_RABBITMQ)
    with rabbit_server() as broker:
        yield broker


def to_rabbit(broker: RabbitServer, **more: Any) -> tuple[str, ICrashPublisher]:
    """A new queue, and a publisher to it."""
    queue = f"q{uuid4().hex}"
    table = {"type": "rabbitmq", "url": rabbitmq_url(broker.port), "queue": queue, "timeout_s": 20.0} | more
    return str(table["queue"]), publisher(**table)


async def ids_in(broker: RabbitServer, queue: str) -> list[str]:
    messages = await deferToThread(taken_from, broker.port, queue)
    assert {mode for _, mode in messages} <= {2}
    return [crash_id for crash_id, _ in messages]


class TestRabbitmq(PublisherContract):
    @pytest.fixture
    def subject(self, rabbit: RabbitServer) -> Publisher:
        queue = f"q{uuid4().hex}"

        async def published() -> Sequence[str]:
            return await ids_in(rabbit, queue)

        nowhere = f"amqp://localhost:{free_port()}/"
        return Publisher(
            lambda: to_rabbit(rabbit, queue=queue)[1],
            published,
            lambda: publisher(type="rabbitmq", url=nowhere, timeout_s=5.0),
        )


@in_reactor
async def test_the_priority_queue(rabbit: RabbitServer) -> None:
    urgent = f"u{uuid4().hex}"
    queue, made = to_rabbit(rabbit, priority_queue=urgent, priority_when={"ReleaseChannel": ["nightly", "beta"]})
    crashes = [make_crash(ReleaseChannel=channel) for channel in ("nightly", "release", "beta")]
    for crash in crashes:
        await made.publish(crash)
    assert await ids_in(rabbit, urgent) == [crashes[0].crash_id, crashes[2].crash_id]
    assert await ids_in(rabbit, queue) == [crashes[1].crash_id]
    await made.close()


@in_reactor
async def test_a_queue_that_is_not_there(rabbit: RabbitServer) -> None:
    queue, made = to_rabbit(rabbit, declare=False)
    with pytest.raises(PublishError, match=f"NOT_FOUND - no queue '{queue}' .* with declare = false it is not made"):
        await made.check()
    with pytest.raises(PublishError, match="NOT_FOUND"):
        await made.publish(make_crash())
    await made.close()


@in_reactor
async def test_a_queue_that_is_deleted_is_declared_again(rabbit: RabbitServer) -> None:
    queue, made = to_rabbit(rabbit)
    await made.publish(make_crash())
    await deferToThread(delete_queue, rabbit.port, queue)
    with pytest.raises(PublishError, match="there is no queue"):
        await made.publish(make_crash())
    await made.check()
    crash = make_crash()
    await made.publish(crash)
    assert await ids_in(rabbit, queue) == [crash.crash_id]
    await made.close()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"x_queue_type": "quorum"}, id="quorum"),
        pytest.param({"x_message_ttl": 3_600_000}, id="with a time to live"),
    ],
)
@pytest.mark.parametrize("user", ["crash", "writer"])
@in_reactor
async def test_a_queue_that_is_there_is_taken_as_it_is(
    rabbit: RabbitServer, arguments: dict[str, Any], user: str
) -> None:
    queue = f"q{uuid4().hex}"
    await deferToThread(make_queue, rabbit.port, queue, **arguments)
    _, made = to_rabbit(rabbit, queue=queue, url=rabbitmq_url(rabbit.port, user))
    crash = make_crash()
    await made.check()
    await made.publish(crash)
    assert await ids_in(rabbit, queue) == [crash.crash_id]
    await made.close()


@in_reactor
async def test_a_queue_that_may_not_be_made(rabbit: RabbitServer) -> None:
    queue, made = to_rabbit(rabbit, url=rabbitmq_url(rabbit.port, "writer"))
    with pytest.raises(PublishError, match=f"ACCESS_REFUSED - access to queue '{queue}' .* refused for user 'writer'"):
        await made.check()
    await made.close()


@in_reactor
async def test_a_queue_is_made_as_it_is_set_up(rabbit: RabbitServer) -> None:
    queue, made = to_rabbit(rabbit, queue_type="quorum", arguments={"x-max-length": 10})
    await made.check()
    # Only an equal declaration of a queue that is there is taken.
    await deferToThread(make_queue, rabbit.port, queue, x_queue_type="quorum", x_max_length=10)
    await made.close()


@in_reactor
async def test_a_queue_that_is_full_fails_the_ids_that_it_refuses_and_no_other(rabbit: RabbitServer) -> None:
    queue = f"q{uuid4().hex}"
    await deferToThread(make_queue, rabbit.port, queue, x_max_length=20, x_overflow="reject-publish")
    _, made = to_rabbit(rabbit, queue=queue)
    kept, refused = await fates(made, [make_crash() for _ in range(60)])
    found = await ids_in(rabbit, queue)
    assert sorted(found) == sorted(kept)
    assert len(kept) + len(refused) == 60
    assert refused
    assert all("NACK" in why for why in refused.values())
    await made.close()


@in_reactor
async def test_of_many_in_flight_those_that_are_returned_are_told_apart(rabbit: RabbitServer) -> None:
    urgent = f"u{uuid4().hex}"
    queue, made = to_rabbit(rabbit, priority_queue=urgent, priority_when={"ReleaseChannel": ["nightly"]})
    await made.check()
    await deferToThread(delete_queue, rabbit.port, urgent)
    crashes = [make_crash(ReleaseChannel="nightly" if number % 3 else "release") for number in range(300)]
    kept, refused = await fates(made, crashes)
    assert sorted(kept) == sorted(crash.crash_id for crash in crashes[::3])
    assert all(f"there is no queue {urgent}" in why for why in refused.values())
    assert sorted(await ids_in(rabbit, queue)) == sorted(kept)
    await made.close()


async def fates(made: ICrashPublisher, crashes: Sequence[Crash]) -> tuple[list[str], dict[str, str]]:
    """Publish all at once: which of them are told to be kept, and why the others are not."""
    kept, refused = [], {}

    async def publish(crash: Crash) -> None:
        try:
            await made.publish(crash)
            kept.append(crash.crash_id)
        except PublishError as e:
            refused[crash.crash_id] = str(e)

    await gather(publish(crash) for crash in crashes)
    return kept, refused


@in_reactor
async def test_rabbitmq_over_tls_with_a_certificate_of_our_own(rabbit: RabbitServer) -> None:
    url = f"amqps://crash:secret@localhost:{rabbit.tls_port}/"
    files = {"ca_file": str(rabbit.authority.file), "cert_file": str(rabbit.authority.sign("client"))}
    queue, made = to_rabbit(rabbit, url=url, **files)
    crash = make_crash()
    await made.check()
    await made.publish(crash)
    assert await ids_in(rabbit, queue) == [crash.crash_id]
    await made.close()


@pytest.mark.parametrize(
    ("url", "files", "why"),
    [
        pytest.param(
            "amqps://localhost:%(tls)d/", [], "an authority has signed it that is not trusted", id="no ca_file"
        ),
        pytest.param("amqps://localhost:%(tls)d/", ["ca_file"], "ends the connection|TLS fails", id="no cert_file"),
        pytest.param(
            "amqp://localhost:%(tls)d/", [], "does not speak AMQP: check the port.*TLS", id="no TLS at a TLS port"
        ),
        pytest.param("amqps://localhost:%(plain)d/", ["ca_file"], "this port speaks no TLS", id="TLS at another port"),
    ],
)
@in_reactor
async def test_what_is_said_of_tls_that_fails(rabbit: RabbitServer, url: str, files: list[str], why: str) -> None:
    table = {"ca_file": str(rabbit.authority.file)} if files else {}
    _, made = to_rabbit(rabbit, url=url % {"tls": rabbit.tls_port, "plain": rabbit.port}, **table)
    with pytest.raises(PublishError, match=why):
        await made.check()
    await made.close()


@in_reactor
async def test_a_wrong_password(rabbit: RabbitServer) -> None:
    _, made = to_rabbit(rabbit, url=f"amqp://crash:wrong@127.0.0.1:{rabbit.port}/")
    with pytest.raises(PublishError, match="check user, password and virtual host") as error:
        await made.check()
    assert "wrong@" not in str(error.value)
    await made.close()


@in_reactor
async def test_a_broker_that_is_stopped_and_goes_on(rabbit: RabbitServer) -> None:
    queue, made = to_rabbit(rabbit, timeout_s=2.0)
    await made.check()
    rabbit.freeze()
    try:
        for _ in range(2):  # once on the open connection, once on a new one
            with pytest.raises(PublishError, match="nothing for 2 s"):
                await made.publish(make_crash())
    finally:
        rabbit.signal(signal.SIGCONT)
    crash = make_crash()
    await made.publish(crash)
    assert crash.crash_id in await ids_in(rabbit, queue)
    await made.close()


@in_reactor
async def test_a_broker_that_is_killed_and_comes_back(rabbit: RabbitServer) -> None:
    queue, made = to_rabbit(rabbit)
    await made.check()
    # A kill just after a queue was declared was seen to lose the queue and what it held: the declaration was not on
    # the disk yet.
    await deferLater(cast(Any, reactor), 5)
    first = make_crash()
    await made.publish(first)
    await deferToThread(rabbit.kill)
    with pytest.raises(PublishError):
        await made.publish(make_crash())
    await deferToThread(rabbit.start)
    second = make_crash()
    await made.publish(second)
    assert await ids_in(rabbit, queue) == [first.crash_id, second.crash_id]
    await made.close()


# ——— Redis ———


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    if NO_REDIS:
        pytest.skip(NO_REDIS)
    with RedisServer(tmp_path / "output") as broker:
        yield broker


def in_stream(broker: RedisServer, stream: str = "socorro.standard") -> list[str]:
    with Redis(port=broker.port) as client:
        return [fields[b"crash_id"].decode() for _, fields in client.xrange(stream)]


class TestRedis(PublisherContract):
    @pytest.fixture
    def subject(self, store: RedisServer) -> Publisher:
        async def published() -> Sequence[str]:
            return in_stream(store)

        return Publisher(
            lambda: publisher(type="redis", url=f"redis://127.0.0.1:{store.port}/0"),
            published,
            lambda: publisher(type="redis", url=f"redis://127.0.0.1:{free_port()}/0"),
        )


@in_reactor
async def test_redis_killed_and_back(store: RedisServer) -> None:
    made = publisher(type="redis", url=f"redis://127.0.0.1:{store.port}/0", timeout_s=20.0)
    first, second = make_crash(), make_crash()
    await made.publish(first)
    await deferToThread(store.kill)
    with pytest.raises(PublishError):
        await made.publish(make_crash())
    await deferToThread(store.start)
    await made.publish(second)
    assert in_stream(store) == [first.crash_id, second.crash_id]
    await made.close()


@in_reactor
async def test_redis_stopped(store: RedisServer) -> None:
    made = publisher(type="redis", url=f"redis://127.0.0.1:{store.port}/0", timeout_s=1.0)
    await made.check()
    store.freeze()
    try:
        with pytest.raises(PublishError):
            await made.publish(make_crash())
    finally:
        store.signal(signal.SIGCONT)
    await made.close()


@in_reactor
async def test_a_redis_that_is_demoted_behind_its_address(store: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with RedisServer(tmp_path / "other" / "output") as other:
        # An address that moves to the new server takes no connection away from the old one.
        address = ProxyFactory("127.0.0.1", store.port)
        port = cast(Any, reactor).listenTCP(0, address, interface="127.0.0.1")
        made = publisher(type="redis", url=f"redis://127.0.0.1:{port.getHost().port}/0")
        await made.publish(make_crash())
        store.answer("REPLICAOF", "127.0.0.1", str(other.port))
        address.port = other.port
        with pytest.raises(PublishError, match="is a replica by now"):
            await made.publish(make_crash())
        await made.check()
        crash = make_crash()
        await made.publish(crash)
        assert crash.crash_id in in_stream(other)
        await made.close()
        await port.stopListening()


@in_reactor
async def test_a_replica_of_redis_has_to_have_each_id(store: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    made = publisher(type="redis", url=f"redis://127.0.0.1:{store.port}/0", replicas=1, timeout_s=2.0)
    with pytest.raises(PublishError, match="has brought the id to 0 of 1 replicas in time"):
        await made.publish(make_crash())
    with RedisServer(tmp_path / "other" / "output") as other:
        other.answer("REPLICAOF", "127.0.0.1", str(store.port))
        crash = make_crash()
        await until_published(made, crash)
        assert crash.crash_id in in_stream(other)
    await made.close()


@in_reactor
async def test_a_check_says_that_redis_is_a_replica(store: RedisServer) -> None:
    made = publisher(type="redis", url=f"redis://127.0.0.1:{store.port}/0")
    store.answer("REPLICAOF", "127.0.0.1", str(free_port()))
    with pytest.raises(PublishError, match=rf"127\.0\.0\.1:{store.port} is a replica of 127\.0\.0\.1:"):
        await made.check()
    await made.close()


@in_reactor
async def test_the_sentinels_of_redis_name_the_server_that_takes_ids_after_a_failover(
    store: RedisServer, tmp_path: Path
) -> None:
    for name in ("other", "sentinel"):
        (tmp_path / name).mkdir()
    with RedisServer(tmp_path / "other" / "output") as other:
        other.answer("REPLICAOF", "127.0.0.1", str(store.port))
        await until_true(lambda: bool(store.answer("ROLE")[2]))
        with SentinelServer(tmp_path / "sentinel" / "output", master=store.port) as sentinel:
            url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/crashes"
            made = publisher(type="redis", url=url)
            await made.check()
            await made.publish(make_crash())
            await until_true(lambda: bool(sentinel.answer("SENTINEL", "REPLICAS", "crashes")))
            await deferToThread(store.kill)
            with pytest.raises(PublishError):
                await made.publish(make_crash())
            await until_true(lambda: other.answer("ROLE")[0] == "master")
            crash = make_crash()
            await until_published(made, crash)
            assert crash.crash_id in in_stream(other)
            await made.close()


async def until_true(told: Callable[[], bool]) -> None:
    while not told():
        await deferLater(cast(Any, reactor), 0.1)


async def until_published(made: ICrashPublisher, crash: Crash) -> None:
    while True:
        try:
            return await made.publish(crash)
        except PublishError:
            await deferLater(cast(Any, reactor), 0.2)


@in_reactor
async def test_redis_over_tls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    if NO_REDIS:
        pytest.skip(NO_REDIS)
    authority = Authority.make(tmp_path)
    broker = RedisServer(tmp_path / "output")
    broker.with_tls(authority, authority.sign(), asks=True)
    with broker:
        table = {"type": "redis", "url": f"rediss://localhost:{broker.tls_port}/0", "ca_file": str(authority.file)}
        made = publisher(**table)
        with pytest.raises(PublishError, match=r"TLS fails: .* certificate"):
            await made.check()
        await made.close()
        made = publisher(**table, cert_file=str(authority.sign("client")))
        await made.check()
        await made.publish(make_crash())
        assert len(in_stream(broker)) == 1
        await made.close()


@pytest.mark.parametrize(
    ("config", "caution"),
    [
        pytest.param("save ''", "keeps nothing on disk", id="nothing on disk"),
        pytest.param("save 3600 1", "only now and then", id="now and then"),
        pytest.param("appendonly yes\nmaxmemory-policy allkeys-lru", "may drop ids", id="evicts"),
        pytest.param("appendonly yes", "", id="keeps all"),
        pytest.param("user default on nopass ~* +xadd +ping +client +hello +select", "", id="may only write"),
    ],
)
@in_reactor
async def test_what_is_said_of_a_redis_that_may_lose_ids(tmp_path: Path, config: str, caution: str) -> None:
    if NO_REDIS:
        pytest.skip(NO_REDIS)
    (tmp_path / "redis.conf").write_text(config)
    with RedisServer(tmp_path / "output", options=(), config=tmp_path / "redis.conf") as broker:
        made: Any = publisher(type="redis", url=f"redis://127.0.0.1:{broker.port}/0")
        await made.check()
        assert [caution in each for each in made.cautions] == ([True] if caution else [])
        await made.publish(make_crash())
        await made.close()


# ——— a web hook ———


class Hook(Resource):
    """Answers with C{code}, or never where that is 0."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.code = 204
        self.published: list[tuple[str, str | None, bytes]] = []

    def render_HEAD(self, request: Any) -> bytes:
        request.setResponseCode(self.code)
        return b""

    def render_POST(self, request: Any) -> Any:
        self.published.append(
            (request.getHeader("Content-Type"), request.getHeader("Authorization"), request.content.read())
        )
        if not self.code:
            return NOT_DONE_YET
        request.setResponseCode(self.code)
        return b"" if self.code == 204 else b"what it says"


@pytest.fixture
def hook() -> Iterator[tuple[Hook, str]]:
    resource = Hook()
    port = cast(Any, reactor).listenTCP(0, Site(resource), interface="127.0.0.1")
    yield resource, f"http://127.0.0.1:{port.getHost().port}/hook"
    port.stopListening()


class TestHttp(PublisherContract):
    @pytest.fixture
    def subject(self, hook: tuple[Hook, str]) -> Publisher:
        resource, url = hook

        async def published() -> Sequence[str]:
            return [body.decode() for _, _, body in resource.published]

        return Publisher(
            lambda: publisher(type="http", url=url, timeout_s=60.0),
            published,
            lambda: publisher(type="http", url=f"http://127.0.0.1:{free_port()}/"),
        )


@in_reactor
async def test_what_the_hook_gets(hook: tuple[Hook, str]) -> None:
    resource, url = hook
    made = publisher(type="http", url=url, token="secret")
    crash = make_crash()
    await made.publish(crash)
    assert resource.published == [("text/plain", "Bearer secret", crash.crash_id.encode())]
    await made.close()


@pytest.mark.parametrize("code", [301, 400, 401, 404, 500, 503])
@in_reactor
async def test_what_is_no_success(hook: tuple[Hook, str], code: int) -> None:
    resource, url = hook
    resource.code = code
    made = publisher(type="http", url=url, token="secret")
    with pytest.raises(PublishError, match=f"answered {code}") as error:
        await made.publish(make_crash())
    assert "secret" not in str(error.value)
    await made.close()


@in_reactor
async def test_a_hook_that_never_answers(hook: tuple[Hook, str]) -> None:
    resource, url = hook
    resource.code = 0
    made = publisher(type="http", url=url, timeout_s=0.5)
    with pytest.raises(PublishError, match=r"nothing for 0\.5 s"):
        await made.publish(make_crash())
    await made.close()


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "nothing", "http://user:pass@x/"])
def test_urls_that_can_t_be(url: str) -> None:
    with pytest.raises(ConfigError, match="must be http://host/path"):
        publisher(type="http", url=url)


# ——— Pub/Sub ———


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Topics]:
    with serving_topics() as (topics, host):
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
        yield topics


class TestPubsub(PublisherContract):
    @pytest.fixture
    def subject(self, topics: Topics) -> Publisher:
        async def published() -> Sequence[str]:
            return topics.published

        return Publisher(
            lambda: publisher(type="pubsub", project="p", topic="t"),
            published,
            lambda: publisher(type="pubsub", project="p", topic="another", timeout_s=2.0),
        )


@in_reactor
async def test_pubsub_that_says_no(topics: Topics) -> None:
    made = publisher(type="pubsub", project="p", topic="t", timeout_s=2.0)
    topics.code = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(PublishError, match=r"projects/p/topics/t: .*so it is"):
        await made.publish(make_crash())
    topics.code = None
    crash = make_crash()
    await made.publish(crash)
    assert topics.published == [crash.crash_id]
    await made.close()
