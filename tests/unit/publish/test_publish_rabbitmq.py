"""
An id is published to RabbitMQ once the broker has confirmed that it keeps the message.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from collectord.concurrency.tasks import gather
from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.testing import make_crash, running
from tests.support.amqpwire import FakeBroker, Message
from tests.support.clocked import ClockedReactor
from tests.support.daemon import free_port

QUEUE = "socorro.standard"
in_reactor = partial(running.in_reactor, seconds=10.0)


@frozen
class Rig:
    """A broker, and publishers to it, whose time limits pass when a test says so."""

    broker: FakeBroker
    clock: ClockedReactor
    made: list[ICrashPublisher]

    def publisher(self, **settings: Any) -> ICrashPublisher:
        return self.at(f"amqp://crash:wr0ng@127.0.0.1:{self.broker.port}/", self.clock, **settings)

    def at(self, url: str, clock: Any, **settings: Any) -> ICrashPublisher:
        table = {"type": "rabbitmq", "url": url, **settings}
        self.made.append(make_plugin(PUBLISHERS, table, PluginContext(clock), "here").instance)
        return self.made[-1]


@pytest.fixture
def rig(clocked: ClockedReactor) -> Iterator[Rig]:
    made = Rig(FakeBroker(), clocked, [])
    made.broker.listen(reactor)
    yield made
    for publisher in made.made:
        pytest_twisted.blockon(Deferred.fromCoroutine(publisher.close()))
    pytest_twisted.blockon(Deferred.fromCoroutine(made.broker.close()))


@in_reactor
async def test_a_message_is_the_bare_id_kept_on_disk_and_confirmed(rig: Rig) -> None:
    rig.broker.confirms = ""
    crash = make_crash()
    publishing = Deferred.fromCoroutine(rig.publisher().publish(crash))
    await rig.broker.until(lambda: rig.broker.messages)
    assert not publishing.called
    assert rig.broker.messages == [Message(QUEUE, crash.crash_id.encode(), 2, mandatory=True)]
    assert rig.broker.queues == {QUEUE: True}
    rig.broker.connections[0].confirm(1, 1)
    await publishing


@in_reactor
async def test_many_at_once_share_one_connection(rig: Rig) -> None:
    made = rig.publisher()
    await gather(made.publish(make_crash()) for _ in range(50))
    assert (len(rig.broker.messages), rig.broker.opened) == (50, 1)


@in_reactor
async def test_crashes_that_are_urgent_have_a_queue_of_their_own(rig: Rig) -> None:
    made = rig.publisher(priority_queue="urgent", priority_when={"ReleaseChannel": ["nightly"]})
    for channel in ("nightly", "release"):
        await made.publish(make_crash(ReleaseChannel=channel))
    assert [message.queue for message in rig.broker.messages] == ["urgent", QUEUE]
    assert rig.broker.queues == {QUEUE: True, "urgent": True}


@in_reactor
async def test_a_check_publishes_nothing_and_declares_nothing_where_it_must_not(rig: Rig) -> None:
    await rig.publisher(declare=False).check()
    assert (rig.broker.messages, rig.broker.queues) == ([], {})
    assert "Confirm.Select" in rig.broker.methods


@pytest.mark.parametrize("confirms", ["nack", "return"])
@in_reactor
async def test_a_message_that_the_broker_can_not_keep_is_not_published_and_it_connects_anew(
    rig: Rig, confirms: str
) -> None:
    rig.broker.confirms = confirms
    made = rig.publisher()
    with pytest.raises(PublishError, match=f"^rabbitmq {QUEUE}: the broker can't keep the message"):
        await made.publish(make_crash())
    await rig.broker.until(lambda: not rig.broker.connections)
    rig.broker.confirms = "ack"
    await made.publish(make_crash())
    assert rig.broker.opened == 2


@in_reactor
async def test_a_connection_that_is_lost_before_the_confirmation_is_an_error_and_made_anew(rig: Rig) -> None:
    rig.broker.confirms = ""
    made = rig.publisher()
    publishing = Deferred.fromCoroutine(made.publish(make_crash()))
    await rig.broker.until(lambda: rig.broker.messages)
    rig.broker.connections[0].transport.loseConnection()  # type: ignore[union-attr]
    with pytest.raises(PublishError):
        await publishing
    rig.broker.confirms = "ack"
    await made.publish(make_crash())


@pytest.mark.parametrize("method", ["Connection.StartOk", "Connection.Open"])
@in_reactor
async def test_a_broker_that_ends_the_connection_is_told_of_with_what_may_be_wrong(rig: Rig, method: str) -> None:
    rig.broker.ends_at = method
    with pytest.raises(PublishError, match="check user, password and virtual host") as told:
        await rig.publisher().check()
    assert "wr0ng" not in str(told.value)


@pytest.mark.parametrize("method", ["Connection.Open", "Channel.Open", "Confirm.Select", "Queue.Declare"])
@in_reactor
async def test_a_broker_that_hangs_is_given_up(rig: Rig, method: str) -> None:
    rig.broker.hangs_at = method
    checking = Deferred.fromCoroutine(rig.publisher().check())
    await rig.broker.until(lambda: method in rig.broker.methods)
    rig.clock.advance(10)
    with pytest.raises(PublishError, match="nothing for 10 s"):
        await checking
    await rig.broker.until(lambda: not rig.broker.connections)


@in_reactor
async def test_a_message_that_is_not_confirmed_in_time_is_not_published(rig: Rig) -> None:
    rig.broker.confirms = ""
    publishing = Deferred.fromCoroutine(rig.publisher().publish(make_crash()))
    await rig.broker.until(lambda: rig.broker.messages)
    rig.clock.advance(10)
    with pytest.raises(PublishError, match="nothing for 10 s"):
        await publishing


@in_reactor
async def test_cancelled_it_waits_no_longer(rig: Rig) -> None:
    rig.broker.confirms = ""
    publishing = Deferred.fromCoroutine(rig.publisher().publish(make_crash()))
    await rig.broker.until(lambda: rig.broker.messages)
    publishing.cancel()
    with pytest.raises(CancelledError):
        await publishing


@pytest.mark.slow
@in_reactor
async def test_nobody_listens(rig: Rig) -> None:
    made = rig.at(f"amqp://127.0.0.1:{free_port()}/", reactor)
    with pytest.raises(PublishError, match="ConnectionRefused"):
        await made.check()


@in_reactor
async def test_closed_it_lets_go_of_its_connection(rig: Rig) -> None:
    made = rig.publisher()
    await made.check()
    await made.close()
    await rig.broker.until(lambda: not rig.broker.connections)
    await made.close()


@in_reactor
async def test_closed_while_it_connects_it_keeps_no_connection(rig: Rig) -> None:
    made = rig.publisher()
    checking = Deferred.fromCoroutine(made.check())
    await made.close()
    with pytest.raises(PublishError, match="the publisher is closed"):
        await checking
    await rig.broker.until(lambda: not rig.broker.connections)


@pytest.mark.parametrize("url", ["http://x/", "amqp://x:port/"], ids=["scheme", "port"])
def test_urls_that_can_not_be(url: str) -> None:
    with pytest.raises(ConfigError, match="must be amqp://") as told:
        make_plugin(PUBLISHERS, {"type": "rabbitmq", "url": url}, PluginContext(None), "here")
    assert url not in str(told.value)
