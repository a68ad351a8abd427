"""
An id is published by HTTP once any 2xx is answered.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred

from collectord.errors import PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.testing import make_crash
from collectord.testing.running import in_reactor
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


@pytest.mark.parametrize("status", [301, 400, 401, 404, 500, 503])
@in_reactor
async def test_what_is_no_2xx_confirms_nothing(hook: Hook, status: int) -> None:
    hook.server.answers = [answer(status, b"", b"Location: /other")]
    with pytest.raises(PublishError, match=f"answered {status}") as told:
        await hook.publisher.publish(make_crash())
    assert "secret" not in str(told.value)
    assert len(hook.server.requests) == 1  # nobody is followed


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (405, True), (500, False)])
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


@in_reactor
async def test_closed_it_lets_go_of_its_connection(hook: Hook) -> None:
    hook.server.answers = [answer(204)]
    await hook.publisher.publish(make_crash())
    assert len(hook.server.connections) == 1
    await hook.publisher.close()
    await hook.server.until(lambda: not hook.server.connections)
