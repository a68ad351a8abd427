"""
An id is published to RabbitMQ once the broker has confirmed that it keeps the message.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import frozen
from pika import spec
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from collectord.concurrency.tasks import gather
from collectord.errors import ConfigError, IdRefused, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.testing import make_crash, running
from tests.support.amqpwire import FakeBroker, Message
from tests.support.cases import first_quick, for_each
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

    async def until(self, met: Callable[[], bool]) -> None:
        while not met():
            await arrival()


async def arrival() -> None:
    """Return once what a socket of the test has written has been read at its other end."""
    for _ in range(20):
        await deferLater(cast(Any, reactor), 0)


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
    rig.broker.connections[0].confirm(1)
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


@pytest.mark.parametrize("declare", [True, False], ids=["may declare", "must not declare"])
@in_reactor
async def test_a_check_publishes_nothing_and_declares_no_queue_that_is_there(rig: Rig, declare: bool) -> None:
    rig.broker.queues = {QUEUE: False}  # as it is not made here
    await rig.publisher(declare=declare).check()
    assert (rig.broker.messages, rig.broker.queues) == ([], {QUEUE: False})
    assert "Confirm.Select" in rig.broker.methods


@in_reactor
async def test_without_declare_a_queue_that_is_not_there_is_told_and_not_made(rig: Rig) -> None:
    made = rig.publisher(declare=False)
    told = f"^rabbitmq {QUEUE}: 127.0.0.1:.*NOT_FOUND - no queue '{QUEUE}' .*with declare = false it is not made"
    for work in (made.check, partial(made.publish, make_crash())):
        with pytest.raises(PublishError, match=told):
            await work()
    rig.broker.queues[QUEUE] = True
    await made.publish(make_crash())
    assert (len(rig.broker.messages), rig.broker.opened) == (1, 1)


@in_reactor
async def test_a_queue_is_made_as_it_is_set_up(rig: Rig) -> None:
    await rig.publisher(queue_type="quorum", arguments={"x-max-length": 7, "x-overflow": "reject-publish"}).check()
    assert rig.broker.queues == {QUEUE: True}
    assert rig.broker.arguments == {
        QUEUE: {"x-queue-type": "quorum", "x-max-length": 7, "x-overflow": "reject-publish"}
    }


@in_reactor
async def test_a_queue_that_may_not_be_made_is_told_in_the_words_of_the_broker(rig: Rig) -> None:
    rig.broker.refuses["Queue.Declare"] = (
        403,
        "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'",
    )
    with pytest.raises(PublishError, match=r"ACCESS_REFUSED - access to queue 'q' .* for user 'u' \(403\)"):
        await rig.publisher().check()


@pytest.mark.parametrize(
    ("confirms", "why"), [("nack", r"it refuses it.*NACK"), ("return", f"there is no queue {QUEUE}: NO_ROUTE")]
)
@in_reactor
async def test_a_message_that_the_broker_can_not_keep_is_not_published(rig: Rig, confirms: str, why: str) -> None:
    rig.broker.confirms = confirms
    made = rig.publisher()
    with pytest.raises(PublishError, match=f"^rabbitmq {QUEUE}: the broker can't keep the message: {why}"):
        await made.publish(make_crash())
    rig.broker.confirms = "ack"
    del rig.broker.queues[QUEUE]
    await made.publish(make_crash())
    assert rig.broker.queues == {QUEUE: True}  # it may have been gone, so it is declared again
    assert rig.broker.opened == 1


async def published(rig: Rig, count: int) -> list[Any]:
    """Publish that many ids at once, which the broker does not confirm yet; what became of each: an error, or None."""
    rig.broker.confirms = ""
    made = rig.publisher()
    results: list[Any] = ["waits"] * count

    async def publish(number: int) -> None:
        try:
            await made.publish(make_crash())
            results[number] = None
        except PublishError as e:
            results[number] = str(e)

    for number in range(count):
        Deferred.fromCoroutine(publish(number))
    await rig.broker.until(lambda: len(rig.broker.messages) == count)
    return results


@in_reactor
async def test_a_nack_fails_its_own_id_only(rig: Rig) -> None:
    results = await published(rig, 5)
    broker = rig.broker.connections[0]
    broker.refuse(3)
    broker.confirm(2, multiple=True)
    await rig.until(lambda: results.count("waits") == 2)
    assert ["NACK" in str(result) for result in results] == [False, False, True, False, False]
    assert results[:2] == [None, None]
    broker.confirm(5, multiple=True)
    await rig.until(lambda: "waits" not in results)
    assert results[3:] == [None, None]


def with_two_queues(rig: Rig, **settings: Any) -> Any:
    return rig.publisher(priority_queue="urgent", priority_when={"ReleaseChannel": ["nightly"]}, **settings)


async def refusals_of(made: ICrashPublisher, count: int) -> list[str]:
    """Publish so many urgent ids, one after the other, none of which is taken."""
    refusals = []
    for _ in range(count):
        with pytest.raises(IdRefused) as told:
            await made.publish(make_crash(ReleaseChannel="nightly"))
        refusals.append(str(told.value))
    return refusals


@in_reactor
async def test_a_queue_that_refuses_everything_is_left_in_peace_and_the_other_one_goes_on(rig: Rig) -> None:
    made = with_two_queues(rig)
    rig.broker.nacks = {"urgent"}
    refusals = await refusals_of(made, 10)
    assert [message.queue for message in rig.broker.messages] == ["urgent"] * 3
    assert refusals[-1] == (
        f"rabbitmq {QUEUE}: the queue urgent refuses ids: it refuses it, as a queue does that is full (NACK)"
    )
    assert made.cautions == [refusals[-1].partition(": ")[2]]
    await made.publish(make_crash())
    for sent, pause in ((4, 1.3), (5, 2.6), (6, 5.1)):
        rig.clock.advance(pause)
        await refusals_of(made, 10)
        assert len([message for message in rig.broker.messages if message.queue == "urgent"]) == sent
    rig.broker.nacks = set()
    rig.clock.advance(20)
    await made.publish(make_crash(ReleaseChannel="nightly"))
    assert made.cautions == []


@in_reactor
async def test_one_queue_that_is_missing_does_not_hold_up_the_ids_for_the_other(rig: Rig) -> None:
    rig.broker.queues = {QUEUE: True}
    made = with_two_queues(rig, declare=False)
    await made.check()
    assert made.cautions == [
        "there is no queue urgent: NOT_FOUND - no queue 'urgent' (404); with declare = false it is not made"
    ]
    await refusals_of(made, 5)
    await made.publish(make_crash())
    assert [message.queue for message in rig.broker.messages] == [QUEUE]
    rig.broker.queues["urgent"] = True
    rig.clock.advance(5)
    await made.publish(make_crash(ReleaseChannel="nightly"))
    assert [message.queue for message in rig.broker.messages] == [QUEUE, "urgent"]
    assert made.cautions == []


@in_reactor
async def test_if_all_queues_are_missing_each_is_named(rig: Rig) -> None:
    made = with_two_queues(rig, declare=False)
    with pytest.raises(PublishError, match=f"no queue '{QUEUE}' .*; .*no queue 'urgent' .*"):
        await made.check()


@in_reactor
async def test_returned_messages_are_told_apart_by_their_ids(rig: Rig) -> None:
    results = await published(rig, 6)
    broker = rig.broker.connections[0]
    bodies = [message.body.decode() for message in rig.broker.messages]
    for number in (1, 4):
        broker.give_back(bodies[number], QUEUE)
    broker.confirm(6, multiple=True)
    await rig.until(lambda: "waits" not in results)
    assert ["NO_ROUTE" in str(result) for result in results] == [False, True, False, False, True, False]
    assert [result for result in results if "NO_ROUTE" not in str(result)] == [None] * 4


@in_reactor
async def test_a_message_that_nobody_waits_for_any_more_fails_no_other(rig: Rig) -> None:
    rig.broker.confirms = ""
    made = rig.publisher()
    crash = make_crash()
    first = Deferred.fromCoroutine(made.publish(crash))
    await rig.broker.until(lambda: rig.broker.messages)
    rig.broker.connections[0].confirm(1)
    await first
    given_up = Deferred.fromCoroutine(made.publish(crash))
    again = Deferred.fromCoroutine(made.publish(crash))
    await rig.broker.until(lambda: len(rig.broker.messages) == 3)
    again.addErrback(lambda _: None)
    given_up.cancel()
    with pytest.raises(CancelledError):
        await given_up


@in_reactor
async def test_one_queue_that_hangs_costs_the_others_nothing(rig: Rig) -> None:
    rig.broker.confirms = ""
    made = rig.publisher()
    hung = Deferred.fromCoroutine(made.publish(make_crash()))
    await rig.broker.until(lambda: rig.broker.messages)
    rig.clock.advance(9)
    well = Deferred.fromCoroutine(made.publish(make_crash()))
    await rig.broker.until(lambda: len(rig.broker.messages) == 2)
    rig.broker.connections[0].confirm(2)
    await well
    rig.clock.advance(1)
    with pytest.raises(PublishError, match="nothing for 10 s"):
        await hung
    rig.broker.confirms = "ack"
    await made.publish(make_crash())
    assert rig.broker.opened == 1


@in_reactor
async def test_a_broker_that_confirms_nothing_gets_a_new_connection_also_if_another_limit_is_first(rig: Rig) -> None:
    rig.broker.confirms = ""
    made = rig.publisher()
    publishing = Deferred.fromCoroutine(made.publish(make_crash()))
    await rig.broker.until(lambda: rig.broker.messages)
    rig.clock.advance(9)
    publishing.cancel()
    with pytest.raises(CancelledError):
        await publishing
    rig.broker.confirms = "ack"
    await made.publish(make_crash())
    assert rig.broker.opened == 2


@in_reactor
async def test_a_broker_that_is_out_of_memory_is_told_in_its_words(rig: Rig) -> None:
    rig.broker.confirms = ""
    made = rig.publisher()
    publishing = Deferred.fromCoroutine(made.publish(make_crash()))
    await rig.broker.until(lambda: rig.broker.messages)
    rig.broker.connections[0].say(spec.Connection.Blocked("low on memory"))
    await arrival()
    rig.clock.advance(10)
    with pytest.raises(PublishError, match="takes no messages for now: low on memory"):
        await publishing
    for work in (made.check, partial(made.publish, make_crash())):
        with pytest.raises(PublishError, match="takes no messages for now: low on memory"):
            await work()  # it is not even sent
    assert len(rig.broker.messages) == 1
    rig.broker.connections[0].say(spec.Connection.Unblocked())
    rig.broker.confirms = "ack"
    await until_taken(made)
    assert rig.broker.opened == 1


async def until_taken(made: ICrashPublisher) -> None:
    while True:
        try:
            return await made.publish(make_crash())
        except PublishError:
            await arrival()


@in_reactor
async def test_a_connection_that_the_broker_closes_is_told_in_its_words(rig: Rig) -> None:
    rig.broker.confirms = ""
    publishing = Deferred.fromCoroutine(rig.publisher().publish(make_crash()))
    await rig.broker.until(lambda: rig.broker.messages)
    rig.broker.connections[0].say(spec.Connection.Close(320, "CONNECTION_FORCED - broker forced shutdown", 0, 0))
    with pytest.raises(PublishError, match=r"CONNECTION_FORCED - broker forced shutdown \(320\)"):
        await publishing


@in_reactor
async def test_a_broker_without_a_sign_of_life_is_given_up(rig: Rig) -> None:
    rig.broker.heartbeat = 4
    made = rig.publisher()
    await made.check()
    for _ in range(5):
        rig.clock.advance(2)
    await rig.broker.until(lambda: not rig.broker.connections)
    await made.check()
    assert rig.broker.opened == 2


@first_quick(
    "garbage",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="a web server"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x28", id="TLS"),
        pytest.param(b"AMQP\x00\x01\x00\x00", id="another AMQP"),
        pytest.param(b"\x01\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff\xce", id="no such method"),
        pytest.param(b"\x01\x00\x00\xff\xff\xff\xff", id="a frame of 4 GB"),
        pytest.param(b"\x01\x00\x00\x00\x00\x00\x01\x00\x00", id="no end of a frame"),
    ],
)
@in_reactor
async def test_what_does_not_speak_amqp_is_told(rig: Rig, garbage: bytes) -> None:
    rig.broker.greeting = garbage
    with pytest.raises(PublishError, match="does not speak AMQP: check the port, and whether it expects TLS"):
        await rig.publisher().check()
    await rig.broker.until(lambda: not rig.broker.connections)


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


@first_quick("method", ["Connection.Open", "Channel.Open", "Confirm.Select", "Queue.Declare"])
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
@pytest.mark.slow
@in_reactor
async def test_nobody_listens(rig: Rig) -> None:
    made = rig.at(f"amqp://127.0.0.1:{free_port()}/", reactor)
    with pytest.raises(PublishError, match=r": Connection was refused by other side: [^(]*Connection refused$"):
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


@in_reactor
async def test_a_user_who_is_refused_is_told_in_the_words_of_the_broker(rig: Rig) -> None:
    rig.broker.refuses["Connection.StartOk"] = (403, "ACCESS_REFUSED - Login was refused")
    with pytest.raises(PublishError, match=r"Login was refused \(403\); check user, password and virtual host"):
        await rig.publisher().check()


@for_each(
    ("settings", "why"),
    [
        pytest.param({"url": "http://x/"}, "must be amqp://<user>:<password>@<host>", id="scheme"),
        pytest.param({"url": "amqp://x:port/"}, "must be amqp://", id="port"),
        pytest.param({"url": "amqps://x/?ssl_options=%7B%7D"}, "use ca_file, cert_file and key_file", id="ssl_options"),
        pytest.param({"url": "amqp://x/?socket_timeout=S3CR3T"}, "only heartbeat has an effect", id="another option"),
        pytest.param({"url": "amqp://x/", "ca_file": "ca.pem"}, "need an amqps:// url", id="no TLS"),
        pytest.param({"queue_type": "lazy"}, "queue_type", id="queue_type"),
        pytest.param({"priority_queue": "urgent"}, "set both priority_queue", id="no selection"),
        pytest.param({"priority_when": {"A": ["b"]}}, "set both priority_queue", id="no priority queue"),
        pytest.param({"declare": False, "queue_type": "quorum"}, "with declare = false none is", id="nothing is made"),
        pytest.param(
            {"queue_type": "quorum", "arguments": {"x-queue-type": "classic"}}, "contradict each other", id="two types"
        ),
    ],
)
def test_settings_that_can_not_be(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as told:
        make_plugin(PUBLISHERS, {"type": "rabbitmq", **settings}, PluginContext(None), "here")
    assert "x:port" not in str(told.value)
    assert "S3CR3T" not in str(told.value)
