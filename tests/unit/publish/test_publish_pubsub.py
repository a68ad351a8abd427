"""
An id is published to Pub/Sub once that has given its message an id. The server speaks gRPC to the real client.
"""

from collections.abc import Iterator

import grpc
import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.testing import make_crash
from collectord.testing.leaks import assert_nothing_is_left, held_now
from collectord.testing.running import in_reactor
from tests.support.pubsubserver import TOPIC, Topics, serving_topics


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Topics]:
    with serving_topics() as (topics, host):
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
        yield topics


def publisher(topic: str = "t", timeout_s: float = 10.0) -> ICrashPublisher:
    table = {"type": "pubsub", "project": "p", "topic": topic, "timeout_s": timeout_s}
    made: ICrashPublisher = make_plugin(PUBLISHERS, table, PluginContext(reactor), "here").instance
    return made


@pytest.fixture
def to_topic(topics: Topics) -> Iterator[ICrashPublisher]:
    made = publisher()
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@in_reactor
async def test_the_bare_id_is_published_once_it_is_confirmed(topics: Topics, to_topic: ICrashPublisher) -> None:
    topics.over.clear()
    crash = make_crash()
    publishing = Deferred.fromCoroutine(to_topic.publish(crash))
    await to_topic.check()
    assert (publishing.called, topics.published) == (False, [])
    topics.over.set()
    await publishing
    assert topics.published == [crash.crash_id]


@in_reactor
async def test_what_pubsub_refuses_is_not_published(topics: Topics, to_topic: ICrashPublisher) -> None:
    topics.code = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(PublishError, match=rf"^pubsub {TOPIC}: .*so it is"):
        await to_topic.publish(make_crash())
    topics.code = None
    await to_topic.publish(make_crash())
    assert len(topics.published) == 1


@in_reactor
async def test_a_topic_that_is_not_there(topics: Topics) -> None:
    made = publisher("another")
    with pytest.raises(PublishError, match="no projects/p/topics/another"):
        await made.check()
    await made.close()


@in_reactor
async def test_one_that_does_not_answer_is_given_up(topics: Topics) -> None:
    topics.over.clear()
    made = publisher(timeout_s=0.4)
    with pytest.raises(PublishError):
        await made.publish(make_crash())
    topics.over.set()
    await made.close()


@in_reactor
async def test_cancelled_it_waits_no_longer(topics: Topics, to_topic: ICrashPublisher) -> None:
    topics.over.clear()
    publishing = Deferred.fromCoroutine(to_topic.publish(make_crash()))
    publishing.cancel()
    with pytest.raises(CancelledError):
        await publishing
    topics.over.set()


@pytest.mark.slow
@in_reactor
async def test_closed_it_leaves_no_thread_and_no_connection(topics: Topics) -> None:
    async def use_one() -> None:
        made = publisher()
        await made.publish(make_crash())
        await made.close()
        await made.close()

    await use_one()  # what gRPC makes once in a process, and keeps, is there now
    before = held_now()
    await use_one()
    await assert_nothing_is_left(before)


@in_reactor
async def test_one_that_was_never_used_is_closed_without_a_word(topics: Topics) -> None:
    await publisher().close()


def test_names_that_are_paths_are_refused() -> None:
    with pytest.raises(ConfigError, match="topic: must be the name alone"):
        publisher("projects/p/topics/t")
