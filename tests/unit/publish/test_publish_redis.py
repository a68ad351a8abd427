"""
An id is published to Redis once the stream has an entry for it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from typing import Any, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import define, field
from redis import Redis
from redis.exceptions import RedisError
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from collectord.concurrency.tasks import gather
from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.publish.redisclient import RedisConnections, hosts_of, make_client
from collectord.testing import make_crash
from collectord.testing.leaks import assert_nothing_is_left, held_now
from collectord.testing.running import in_reactor
from tests.support.cases import first_quick, for_each
from tests.support.daemon import free_port

MASTER = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
REPLICA = b"*5\r\n$5\r\nslave\r\n$5\r\nother\r\n:6379\r\n$9\r\nconnected\r\n:7\r\n"
SENTINEL = b"*2\r\n$8\r\nsentinel\r\n*0\r\n"
NO_ID = b"-ERR The ID specified in XADD must be greater than 0-0\r\n"
NOT_ALLOWED = b"-NOPERM this user has no permissions to run this command\r\n"
UNKNOWN = b"-ERR unknown command 'ROLE'\r\n"
READONLY = b"-READONLY You can't write against a read only replica.\r\n"


def text(value: str) -> bytes:
    return f"${len(value)}\r\n{value}\r\n".encode()


def info(*, policy: str = "noeviction", aof: int = 1) -> bytes:
    return text(f"maxmemory_policy:{policy}\r\naof_enabled:{aof}\r\n")


@define(eq=False)
class FakeRedis:
    """
    Speaks as much of Redis' protocol as the client needs; on threads, for the client is on threads, too.

    @ivar says: what a command is answered that C{others} does not have; None: nothing, until the end.
    @ivar others: what commands are answered, by their first word.
    @ivar commands: that came, but for the client's greetings.
    @ivar opened: how many connections there were.
    @ivar open: how many there are.
    """

    says: bytes | None = b"+OK\r\n"
    others: dict[bytes, bytes] = field(factory=lambda: {b"ROLE": MASTER, b"INFO": info(), b"CONFIG": NOT_ALLOWED})
    opened: int = 0
    open: int = 0
    commands: list[list[bytes]] = field(factory=list)
    port: int = 0
    over: Event = field(factory=Event)
    _server: Any = None

    def __enter__(self) -> "FakeRedis":
        fake = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                fake.opened += 1
                fake.open += 1
                while line := self.rfile.readline():
                    words = [self._word() for _ in range(int(line[1:]))]
                    self.wfile.write(b"+OK\r\n" if words[0] in (b"HELLO", b"CLIENT", b"AUTH") else fake.answer(words))
                fake.open -= 1

            def _word(self) -> bytes:
                size = int(self.rfile.readline()[1:])
                return self.rfile.read(size + 2)[:-2]

        ThreadingTCPServer.daemon_threads = True
        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.002,), daemon=True).start()
        return self

    def answer(self, words: list[bytes]) -> bytes:
        self.commands.append(words)
        if self.says is None:
            self.over.wait()
        return self.others.get(words[0], self.says or b"+OK\r\n")

    def __exit__(self, *args: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def redis() -> Iterator[FakeRedis]:
    with FakeRedis() as fake:
        yield fake


def publisher(port: int, **settings: Any) -> ICrashPublisher:
    # Without a version of the protocol, the client greets each server first.
    table = {"type": "redis", "url": f"redis://127.0.0.1:{port}/0?protocol=2", "timeout_s": 10.0, **settings}
    made: ICrashPublisher = make_plugin(PUBLISHERS, table, PluginContext(reactor), "here").instance
    return made


@pytest.fixture
def to_redis(redis: FakeRedis) -> Iterator[ICrashPublisher]:
    made = publisher(redis.port)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@in_reactor
async def test_an_id_is_an_entry_of_the_stream(redis: FakeRedis, to_redis: ICrashPublisher) -> None:
    redis.says = b"$3\r\n1-1\r\n"
    crash = make_crash()
    await to_redis.publish(crash)
    assert redis.commands == [[b"XADD", b"socorro.standard", b"*", b"crash_id", crash.crash_id.encode()]]


@in_reactor
async def test_a_stream_can_be_trimmed(redis: FakeRedis) -> None:
    redis.says = b"$3\r\n1-1\r\n"
    made = publisher(redis.port, maxlen=7, stream="other")
    await made.publish(make_crash())
    assert redis.commands[0][:5] == [b"XADD", b"other", b"MAXLEN", b"~", b"7"]
    await made.close()


@pytest.mark.parametrize(("have", "is_published"), [(2, True), (1, False)], ids=["enough", "too few"])
@in_reactor
async def test_replicas_may_have_to_have_it(redis: FakeRedis, have: int, is_published: bool) -> None:
    redis.says, redis.others[b"WAIT"] = b"$3\r\n1-1\r\n", f":{have}\r\n".encode()
    made = publisher(redis.port, replicas=2, timeout_s=10.0)
    if is_published:
        await made.publish(make_crash())
    else:
        with pytest.raises(PublishError, match="has brought the id to 1 of 2 replicas in time"):
            await made.publish(make_crash())
    assert redis.commands[1] == [b"WAIT", b"2", b"4000"]
    await made.close()


@in_reactor
async def test_what_redis_refuses_is_not_published(redis: FakeRedis, to_redis: ICrashPublisher) -> None:
    redis.says = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
    with pytest.raises(PublishError, match=r"^redis socorro\.standard: .*command not allowed"):
        await to_redis.publish(make_crash())


@in_reactor
async def test_a_check_adds_no_entry(redis: FakeRedis, to_redis: ICrashPublisher) -> None:
    redis.says = NO_ID
    await to_redis.check()
    written = [words for words in redis.commands if words[0] not in redis.others]
    assert written == [[b"XADD", b"socorro.standard", b"0-0", b"check", b""]]  # no server takes this id


@first_quick(
    ("role", "entry", "why"),
    [
        pytest.param(REPLICA, NO_ID, "is a replica of other:6379, which takes no writes", id="replica"),
        pytest.param(SENTINEL, NO_ID, r"is a Sentinel; the url has to be redis\+sentinel://", id="sentinel"),
        pytest.param(MASTER, NOT_ALLOWED, "no permissions", id="no right to write"),
        pytest.param(MASTER, READONLY, "is a replica by now", id="demoted meanwhile"),
        pytest.param(MASTER, b"-MOVED 7 10.0.0.1:7000\r\n", "is one of a cluster", id="cluster"),
        pytest.param(MASTER, b"-NOREPLICAS Not enough good replicas.\r\n", "Not enough good replicas", id="replicas"),
        pytest.param(b"-LOADING it is loading\r\n", NO_ID, "it is loading", id="loading"),
    ],
)
@in_reactor
async def test_a_check_says_why_no_entry_would_be_taken(
    redis: FakeRedis, to_redis: ICrashPublisher, role: bytes, entry: bytes, why: str
) -> None:
    redis.others[b"ROLE"], redis.says = role, entry
    with pytest.raises(PublishError, match=rf"^redis socorro\.standard: .*{why}"):
        await to_redis.check()


@pytest.mark.parametrize("refusal", [NOT_ALLOWED, UNKNOWN], ids=["no permission", "unknown to a proxy"])
@in_reactor
async def test_a_user_who_may_only_write_is_enough(redis: FakeRedis, to_redis: ICrashPublisher, refusal: bytes) -> None:
    redis.others = dict.fromkeys([b"ROLE", b"INFO", b"CONFIG"], refusal)
    redis.says = NO_ID
    await to_redis.check()


@in_reactor
async def test_after_any_error_no_connection_is_used_again(redis: FakeRedis, to_redis: ICrashPublisher) -> None:
    redis.says = b"$3\r\n1-1\r\n"
    await gather(to_redis.publish(make_crash()) for _ in range(8))
    opened = redis.opened
    redis.says = READONLY
    with pytest.raises(PublishError, match="takes no writes"):
        await to_redis.publish(make_crash())
    redis.says = b"$3\r\n1-1\r\n"
    await gather(to_redis.publish(make_crash()) for _ in range(8))
    assert redis.opened > opened
    assert opened <= 4


@in_reactor
async def test_work_that_ends_after_an_error_of_other_work_leaves_no_connection(redis: FakeRedis) -> None:
    connections = RedisConnections(lambda: make_client(f"redis://127.0.0.1:{redis.port}/0?protocol=2", {}))
    kept: list[Redis] = []  # so that it is not the garbage collector that closes its connections

    def fails(client: Redis) -> None:
        raise RedisError

    def overtaken(client: Redis) -> None:
        kept.append(client)
        with pytest.raises(RedisError):
            connections.use(fails)
        client.ping()

    connections.use(overtaken)
    while redis.open:
        await deferLater(cast(Any, reactor), 0.001)
    connections.close()


@in_reactor
async def test_a_check_warns_once_of_what_the_server_can_not_promise(
    redis: FakeRedis, to_redis: ICrashPublisher, reported: Callable[[], list[str]]
) -> None:
    redis.says = NO_ID
    await to_redis.check()
    assert cautions_of(to_redis) == []
    redis.others[b"INFO"] = info(policy="allkeys-lru", aof=0)
    redis.others[b"CONFIG"] = b"*2\r\n" + text("save") + text("")
    for _ in range(2):
        await to_redis.check()
    drops, loses = cautions_of(to_redis)
    assert "maxmemory-policy is allkeys-lru" in drops
    assert "keeps nothing on disk" in loses
    assert [line for line in reported() if "Redis" in line] == [
        f"redis socorro.standard: {it}" for it in (drops, loses)
    ]


@in_reactor
async def test_one_that_saves_now_and_then_is_warned_of(redis: FakeRedis, to_redis: ICrashPublisher) -> None:
    redis.says, redis.others[b"INFO"] = NO_ID, info(aof=0)
    await to_redis.check()
    assert ["only now and then" in caution for caution in cautions_of(to_redis)] == [True]


def cautions_of(made: Any) -> list[str]:
    return list(made.cautions)


@in_reactor
async def test_one_that_is_not_there(redis: FakeRedis) -> None:
    redis.__exit__()
    made = publisher(redis.port)
    with pytest.raises(PublishError, match="Connection refused"):
        await made.check()
    with pytest.raises(PublishError, match="Connection refused"):
        await made.publish(make_crash())
    await made.close()
    redis.__enter__()


@in_reactor
async def test_one_that_does_not_answer_is_given_up(redis: FakeRedis) -> None:
    redis.says = None
    made = publisher(redis.port, timeout_s=0.1)
    with pytest.raises(PublishError, match="Timeout"):
        await made.publish(make_crash())
    await made.close()


@in_reactor
async def test_cancelled_it_waits_no_longer(redis: FakeRedis, to_redis: ICrashPublisher) -> None:
    redis.says = None
    publishing = Deferred.fromCoroutine(to_redis.publish(make_crash()))
    publishing.cancel()
    with pytest.raises(CancelledError):
        await publishing
    redis.over.set()


@pytest.mark.slow
@in_reactor
async def test_closed_it_leaves_no_thread_and_no_connection(redis: FakeRedis) -> None:
    redis.says = NO_ID
    before = held_now()
    made = publisher(redis.port)
    await made.check()
    assert held_now() - before
    await made.close()
    await made.close()
    await assert_nothing_is_left(before)


@in_reactor
async def test_of_what_does_not_speak_redis_only_the_beginning_is_told(
    redis: FakeRedis, to_redis: ICrashPublisher
) -> None:
    redis.others[b"ROLE"] = b"INFO {" + b"x" * 5000 + b"}\r\n"
    with pytest.raises(PublishError, match=r"127.0.0.1:[0-9]+: Protocol Error: b'INFO \{xxx") as told:
        await to_redis.check()
    assert len(str(told.value)) < 400


@for_each(
    "url",
    [
        pytest.param("http://x/", id="scheme"),
        pytest.param("nothing", id="word"),
        pytest.param("redis://x:port/", id="port"),
        pytest.param("redis://x/?S3CR3T=1", id="unknown option"),
        pytest.param("redis://x/first", id="no number"),
        pytest.param("redis://crash:p@ss/word@x/0", id="a password with a slash"),
        pytest.param("redis+sentinel://x:26379", id="no service"),
        pytest.param("redis+sentinel:///crashes", id="no sentinel"),
        pytest.param("redis+sentinel://x,/crashes", id="an empty host"),
        pytest.param("redis+sentinel://x:port/crashes", id="port of a sentinel"),
        pytest.param("redis+sentinel://x/crashes/first", id="no number behind a service"),
    ],
)
def test_urls_that_can_not_be(url: str) -> None:
    with pytest.raises(ConfigError, match="must be redis://<user>:<password>@<host>") as told:
        publisher(0, url=url)
    assert url not in str(told.value)
    assert "S3CR3T" not in str(told.value)


def test_a_url_of_sentinels() -> None:
    url = "rediss+sentinel://crash:p%40ss@one,[::1]:7/crashes/3?sentinel_password=other"
    client = make_client(url, {"socket_timeout": 4.0, "ssl_ca_certs": "ca.pem"})
    pool: Any = client.connection_pool
    to_server = pool.connection_kwargs
    assert [to_server[name] for name in ("username", "password", "db")] == ["crash", "p@ss", 3]
    assert [to_server[name] for name in ("socket_timeout", "ssl_ca_certs")] == [4.0, "ca.pem"]
    assert pool.service_name == "crashes"
    assert [sentinel_of(one) for one in pool.sentinel_manager.sentinels] == [
        ("one", 26379, "other", 2.0),
        ("::1", 7, "other", 2.0),
    ]


@first_quick(
    ("answer", "why"),
    [
        pytest.param(b"*0\r\n", "knows no service 'crashes'", id="another service"),
        pytest.param(
            b"-NOAUTH HELLO must be called with the client already authenticated\r\n",
            "asks for a pass",
            id="no password",
        ),
        pytest.param(
            b"-WRONGPASS invalid username-password pair\r\n", "refuses the user or the password", id="a wrong password"
        ),
        pytest.param(b"-ERR something else\r\n", "something else", id="another error"),
    ],
)
@in_reactor
async def test_sentinels_that_name_no_server_are_told_one_by_one(redis: FakeRedis, answer: bytes, why: str) -> None:
    redis.others[b"SENTINEL"] = answer
    gone = free_port()
    url = f"redis+sentinel://:S3CR3T@127.0.0.1:{redis.port},127.0.0.1:{gone}/crashes?protocol=2"
    made = publisher(0, url=url)
    told_of = rf"no Sentinel names a server: 127\.0\.0\.1:{redis.port}: .*{why}.*; 127\.0\.0\.1:{gone}: .*refused"
    with pytest.raises(PublishError, match=rf"^redis socorro\.standard: {told_of}") as told:
        await made.check()
    assert len(str(told.value)) < 300
    assert "S3CR3T" not in str(told.value)
    await made.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(
            b"-NOAUTH HELLO must be called with the client already authenticated\r\n",
            "asks for a pass",
            id="no password",
        ),
        pytest.param(
            b"-WRONGPASS invalid username-password pair\r\n", "refuses the user or the password", id="a wrong password"
        ),
    ],
)
@in_reactor
async def test_a_user_who_is_not_let_in(redis: FakeRedis, to_redis: ICrashPublisher, answer: bytes, why: str) -> None:
    redis.others[b"ROLE"] = answer
    with pytest.raises(PublishError, match=rf"127\.0\.0\.1:{redis.port}: it {why}"):
        await to_redis.check()


def sentinel_of(client: Redis) -> tuple[Any, ...]:
    options = client.connection_pool.connection_kwargs
    assert options["ssl_ca_certs"] == "ca.pem"
    return tuple(options[name] for name in ("host", "port", "password", "socket_timeout"))


@for_each(
    ("url", "hosts"),
    [
        ("redis://crash:secret@host:6379/0", "host:6379"),
        ("redis://:se/cr@et@host", "host"),
        ("redis+sentinel://u:secret@one:1,two:2/crashes/0?sentinel_password=x", "one:1,two:2"),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock"),
    ],
    ids=["one", "slash and at", "sentinels", "socket"],
)
def test_the_hosts_of_a_url_are_shown_without_its_password(url: str, hosts: str) -> None:
    assert hosts_of(url) == hosts


def test_files_for_tls_need_tls(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need a rediss:// or rediss"):
        publisher(0, ca_file=str(tmp_path / "ca.pem"))
