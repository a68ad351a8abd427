"""
The publisher to Kafka against a cluster of brokers that is stopped, killed and brought back. The cluster is the mock of
librdkafka: Debian has no broker.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from collectord.concurrency.tasks import gather
from collectord.errors import PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.testing import Publisher, PublisherContract, make_crash
from collectord.testing.running import in_reactor
from tests.support.brokers import missing
from tests.support.certificates import Authority
from tests.support.daemon import free_port
from tests.support.kafkacluster import KafkaCluster

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(missing("gcc") != "", reason=missing("gcc")),
]


def publisher(servers: str, topic: str = "t", **more: Any) -> ICrashPublisher:
    table = {"type": "kafka", "servers": servers, "topic": topic, "timeout_s": 20.0} | more
    made: ICrashPublisher = make_plugin(PUBLISHERS, table, PluginContext(reactor), "here").instance
    return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path_factory.mktemp("kafka") / "log") as cluster:
        yield cluster


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[KafkaCluster]:
    """A cluster for one test only."""
    with KafkaCluster(tmp_path / "log") as cluster:
        yield cluster


async def ids_in(cluster: KafkaCluster, topic: str) -> Sequence[str]:
    messages = await deferToThread(cluster.messages, topic)
    assert all(key == value for key, value in messages)
    return [str(value, "ascii") for _, value in messages if value]


class TestKafka(PublisherContract):
    @pytest.fixture
    def subject(self, cluster: KafkaCluster) -> Publisher:
        topic = cluster.make_topic()
        return Publisher(
            lambda: publisher(cluster.servers, topic),
            lambda: ids_in(cluster, topic),
            lambda: publisher(f"127.0.0.1:{free_port()}", topic, timeout_s=2.0),
        )


@in_reactor
async def test_brokers_that_hang_and_come_back(mortal: KafkaCluster) -> None:
    topic = mortal.make_topic()
    made = publisher(mortal.servers, topic, timeout_s=3.0)
    first, lost, after = make_crash(), make_crash(), make_crash()
    await made.publish(first)
    mortal.freeze()
    with pytest.raises(PublishError, match=r"kafka t\w+: Local: Message timed out"):
        await made.publish(lost)
    with pytest.raises(PublishError):
        await made.check()
    mortal.thaw()
    await made.check()
    await gather(made.publish(crash) for crash in [lost, after])
    ids = await ids_in(mortal, topic)
    assert set(ids) == {first.crash_id, lost.crash_id, after.crash_id}
    await made.close()


@in_reactor
async def test_brokers_that_are_killed_and_come_back(mortal: KafkaCluster) -> None:
    topic = mortal.make_topic()
    made = publisher(mortal.servers, topic, timeout_s=4.0)
    await made.publish(make_crash())
    mortal.kill()
    with pytest.raises(PublishError, match=r"Local: Message timed out: .*refused"):
        await made.publish(make_crash())
    with pytest.raises(PublishError):
        await made.check()
    await deferToThread(mortal.start)
    await deferToThread(mortal.ask_for, topic)  # what these brokers held is gone
    await made.check()
    crash = make_crash()
    await made.publish(crash)
    assert await ids_in(mortal, topic) == [crash.crash_id]
    await made.close()


@in_reactor
async def test_cancelled_while_brokers_hang(mortal: KafkaCluster) -> None:
    topic = mortal.make_topic()
    made = publisher(mortal.servers, topic)
    await made.publish(make_crash())
    mortal.freeze()
    waiting = Deferred.fromCoroutine(made.publish(make_crash()))
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    mortal.thaw()
    await made.publish(make_crash())
    await made.close()
    assert len(await ids_in(mortal, topic)) in (2, 3)


@in_reactor
async def test_a_topic_that_is_not_there(cluster: KafkaCluster) -> None:
    made = publisher(cluster.servers, "no_such_topic")
    with pytest.raises(PublishError, match="kafka no_such_topic: there is no such topic"):
        await made.check()
    await made.close()


@in_reactor
async def test_brokers_that_speak_no_tls(cluster: KafkaCluster, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    made = publisher(cluster.servers, tls=True, ca_file=str(authority.file), timeout_s=4.0)
    with pytest.raises(PublishError, match=r"SSL handshake failed|in state SSL_HANDSHAKE"):
        await made.publish(make_crash())
    await made.close()
