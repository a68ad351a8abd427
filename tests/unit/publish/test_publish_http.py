"""
An id is published by HTTP once any 2xx is answered.
"""

from collections.abc import Iterator
from typing import Any, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.testing import make_crash
from collectord.testing.running import in_reactor
from tests.support.cases import first_quick, for_each
from tests.support.clocked import ClockedReactor
from tests.support.httpwire import WireServer, answer


def publisher(clock: Any, url: str, **settings: Any) -> ICrashPublisher:
    made: ICrashPublisher = make_plugin(
        PUBLISHERS, {"type": "http", "url": url, **settings}, PluginContext(clock), "here"
    ).instance
    return made


@frozen
class Hook:
    """A hook, and one publisher to it."""

    server: WireServer
    clock: ClockedReactor
    publisher: ICrashPublisher


async def arrival() -> None:
    """Return once what a socket of the test has written has been read at its other end."""
    from twisted.internet import reactor

    for _ in range(20):
        await deferLater(cast(IReactorTime, reactor), 0)


@pytest.fixture
def hook(server: WireServer, clocked: ClockedReactor) -> Iterator[Hook]:
    made = publisher(clocked, server.url("/hook"), token="secret")
    yield Hook(server, clocked, made)
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))
    assert clocked.getDelayedCalls() == []


@in_reactor
async def test_what_the_hook_gets(hook: Hook) -> None:
    hook.server.answers = [None]
    crash = make_crash()
    publishing = Deferred.fromCoroutine(hook.publisher.publish(crash))
    await hook.server.until(lambda: hook.server.requests)
    assert not publishing.called
    hook.server.connections[0].transport.write(answer(202, b"thanks"))  # type: ignore[union-attr]
    await publishing
    (request,) = hook.server.requests
    assert (request.method, request.target, request.body) == ("POST", "/hook", crash.crash_id.encode())
    assert (request.headers["content-type"], request.headers["authorization"]) == ("text/plain", "Bearer secret")


@first_quick("status", [301, 400, 401, 404, 500, 503])
@in_reactor
async def test_what_is_no_2xx_confirms_nothing(hook: Hook, status: int) -> None:
    hook.server.answers = [answer(status, b"", b"Location: /other")]
    with pytest.raises(PublishError, match=f"answered {status}") as told:
        await hook.publisher.publish(make_crash())
    assert "secret" not in str(told.value)
    assert len(hook.server.requests) == 1  # nobody is followed


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (302, False), (308, False), (405, True), (500, False)])
@in_reactor
async def test_a_check_publishes_nothing(hook: Hook, status: int, is_well: bool) -> None:
    hook.server.answers = [answer(status)]
    if is_well:
        await hook.publisher.check()
    else:
        with pytest.raises(PublishError, match=f"answered {status}"):
            await hook.publisher.check()
    assert [(request.method, request.body) for request in hook.server.requests] == [("HEAD", b"")]


@in_reactor
async def test_a_page_is_no_hook(hook: Hook) -> None:
    """As that of a hotel, which answers everything with 200 and keeps nothing."""
    html = b"Content-Type: text/html"
    page = b"\n<!DOCTYPE html>\n<html><head><title>Hotel\n Wi-Fi</title></head></html>"
    hook.server.answers = [answer(200, page, html)]
    with pytest.raises(PublishError) as told:
        await hook.publisher.publish(make_crash())
    assert str(told.value).endswith(": answered 200 with a page (Hotel Wi-Fi), so it is no hook")
    hook.server.answers = [answer(200, b"<p>ok", html)]  # as frameworks do if a hook says nothing of the type
    await hook.publisher.publish(make_crash())


@in_reactor
async def test_a_hook_that_never_answers(hook: Hook) -> None:
    hook.server.answers = [None]
    publishing = Deferred.fromCoroutine(hook.publisher.publish(make_crash()))
    await hook.server.until(lambda: hook.server.requests)
    hook.clock.advance(10)
    with pytest.raises(PublishError, match="nothing for 10 s"):
        await publishing
    await hook.server.until(lambda: not hook.server.connections)


@in_reactor
async def test_a_hook_that_hangs_up(hook: Hook) -> None:
    hook.server.answers, hook.server.hangs_up = [b""], True
    with pytest.raises(PublishError):
        await hook.publisher.publish(make_crash())


@in_reactor
async def test_cancelled_it_waits_no_longer_and_lets_go_of_the_connection(hook: Hook) -> None:
    hook.server.answers = [None]
    publishing = Deferred.fromCoroutine(hook.publisher.publish(make_crash()))
    await hook.server.until(lambda: hook.server.requests)
    publishing.cancel()
    with pytest.raises(CancelledError):
        await publishing
    await hook.server.until(lambda: not hook.server.connections)


def test_cancelled_while_it_connects() -> None:
    reactor = MemoryReactorClock()
    made = publisher(reactor, "http://127.0.0.1/hook")
    publishing = Deferred.fromCoroutine(made.publish(make_crash()))
    assert len(reactor.tcpClients) == 1
    failures: list[Failure] = []
    publishing.addErrback(failures.append)
    publishing.cancel()
    assert failures[0].check(CancelledError)


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
@in_reactor
async def test_a_body_that_does_not_end_in_time(hook: Hook, framing: bytes) -> None:
    hook.server.answers = [b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nabcde\r\n"]
    publishing = Deferred.fromCoroutine(hook.publisher.publish(make_crash()))
    await hook.server.until(lambda: hook.server.requests)
    await arrival()
    hook.clock.advance(10)
    with pytest.raises(PublishError, match="nothing for 10 s"):
        await publishing
    await hook.server.until(lambda: not hook.server.connections)


@in_reactor
async def test_of_a_body_without_an_end_only_the_beginning_is_read(hook: Hook) -> None:
    hook.server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000)]
    await hook.publisher.publish(make_crash())
    await hook.server.until(lambda: not hook.server.connections)


@in_reactor
async def test_after_a_short_body_the_connection_is_used_again(hook: Hook) -> None:
    hook.server.answers = [answer(200, bytes(50_000))]
    for _ in range(3):
        await hook.publisher.publish(make_crash())
    assert hook.server.opened == 1


@for_each(
    "user",
    [
        pytest.param("user", id="user"),
        pytest.param("user:S3CR3T", id="user and password"),
        pytest.param(":S3CR3T", id="password"),
        pytest.param("", id="nothing before the @"),
    ],
)
def test_a_url_with_a_user_or_password_is_refused(user: str) -> None:
    with pytest.raises(ConfigError, match="a secret goes into token") as raised:
        publisher(None, f"http://{user}@127.0.0.1/hook")
    assert "S3CR3T" not in str(raised.value)


@in_reactor
async def test_closed_it_lets_go_of_its_connection(hook: Hook) -> None:
    hook.server.answers = [answer(204)]
    await hook.publisher.publish(make_crash())
    assert len(hook.server.connections) == 1
    await hook.publisher.close()
    await hook.server.until(lambda: not hook.server.connections)
