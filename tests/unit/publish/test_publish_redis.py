"""
An id is published to Redis once the stream has an entry for it.
"""

from collections.abc import Iterator
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.testing import make_crash
from collectord.testing.leaks import assert_nothing_is_left, held_now
from collectord.testing.running import in_reactor


@define(eq=False)
class FakeRedis:
    """
    Speaks as much of Redis' protocol as the client needs; on threads, for the client is on threads, too.

    @ivar says: what C{XADD} and C{PING} are answered; None: nothing, until the end.
    @ivar commands: that came, but for the client's greetings.
    """

    says: bytes | None = b"+OK\r\n"
    commands: list[list[bytes]] = field(factory=list)
    port: int = 0
    over: Event = field(factory=Event)
    _server: Any = None

    def __enter__(self) -> "FakeRedis":
        fake = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline():
                    words = [self._word() for _ in range(int(line[1:]))]
                    self.wfile.write(b"+OK\r\n" if words[0] in (b"HELLO", b"CLIENT", b"AUTH") else fake.answer(words))

            def _word(self) -> bytes:
                size = int(self.rfile.readline()[1:])
                return self.rfile.read(size + 2)[:-2]

        ThreadingTCPServer.daemon_threads = True
        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def answer(self, words: list[bytes]) -> bytes:
        self.commands.append(words)
        if self.says is None:
            self.over.wait()
        return self.says or b"+OK\r\n"

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


@in_reactor
async def test_what_redis_refuses_is_not_published(redis: FakeRedis, to_redis: ICrashPublisher) -> None:
    redis.says = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
    with pytest.raises(PublishError, match=r"^redis socorro\.standard: .*command not allowed"):
        await to_redis.publish(make_crash())


@in_reactor
async def test_a_check_publishes_nothing(redis: FakeRedis, to_redis: ICrashPublisher) -> None:
    redis.says = b"+PONG\r\n"
    await to_redis.check()
    assert redis.commands == [[b"PING"]]


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


@in_reactor
async def test_closed_it_leaves_no_thread_and_no_connection(redis: FakeRedis) -> None:
    redis.says = b"+PONG\r\n"
    before = held_now()
    made = publisher(redis.port)
    await made.check()
    assert held_now() - before
    await made.close()
    await made.close()
    await assert_nothing_is_left(before)


@pytest.mark.parametrize("url", ["http://x/", "nothing", "redis://x:port/"], ids=["scheme", "word", "port"])
def test_urls_that_can_not_be(url: str) -> None:
    with pytest.raises(ConfigError, match="must be redis://") as told:
        publisher(0, url=url)
    assert url not in str(told.value)
