"""
A cluster of Kafka brokers in a process of its own: the mock that comes with librdkafka, since Debian has no broker. It
keeps its messages in memory.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from attrs import frozen
from confluent_kafka import Consumer, Producer, TopicPartition

_SECONDS = 30


@frozen
class KafkaCluster:
    """@ivar servers: C{host:port,…} of its brokers."""

    servers: str
    process: "subprocess.Popen[str]"

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def make_topic(self) -> str:
        """A new one: the mock makes each that it is asked for by its name."""
        topic = f"t{uuid4().hex}"
        Producer({"bootstrap.servers": self.servers}).list_topics(topic, timeout=_SECONDS)
        return topic

    def messages(self, topic: str) -> list[tuple[bytes | None, bytes | None]]:
        """The keys and values of all messages in a topic."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": uuid4().hex})
        try:
            found = consumer.list_topics(topic, timeout=_SECONDS).topics[topic].partitions
            partitions = [TopicPartition(topic, number, 0) for number in found]
            count = sum(consumer.get_watermark_offsets(each, timeout=_SECONDS)[1] for each in partitions)
            consumer.assign(partitions)
            messages = consumer.consume(count, timeout=_SECONDS) if count else []
            assert len(messages) == count
            return [(message.key(), message.value()) for message in messages]
        finally:
            consumer.close()


@contextmanager
def kafka_cluster() -> Iterator[KafkaCluster]:
    """Run a cluster of three brokers."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield KafkaCluster(process.stdout.readline().strip(), process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def _serve() -> None:
    cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 3, "log_level": 0})
    brokers = cluster.list_topics(timeout=_SECONDS).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
