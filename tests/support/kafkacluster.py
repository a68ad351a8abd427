"""
A cluster of Kafka brokers in a process of its own: the mock that comes with librdkafka, since Debian has no broker. It
keeps its messages in memory, so they go with its process.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from uuid import uuid4

from attrs import define, field
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.daemon import ROOT, free_port
from tests.support.server import Server

_SECONDS = 30

_FIXED_PORTS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>

int bind(int fd, const struct sockaddr *address, socklen_t size) {
    static const char *next;
    int (*really)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    struct sockaddr_in fixed;
    int on = 1;
    if (address->sa_family != AF_INET || ((const struct sockaddr_in *)address)->sin_port != 0)
        return really(fd, address, size);
    if (next == NULL)
        next = getenv("FIXED_PORTS");
    fixed = *(const struct sockaddr_in *)address;
    fixed.sin_port = htons(strtol(next, (char **)&next, 10));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    return really(fd, (struct sockaddr *)&fixed, sizeof fixed);
}
"""
"""The mock takes any ports. Brokers that come back have to be where they were."""


@define
class KafkaCluster(Server):
    """@ivar ports: of its brokers."""

    ports: Sequence[int] = field(factory=lambda: [free_port() for _ in range(3)])

    @property
    def servers(self) -> str:
        """C{host:port,…} of its brokers."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", __name__, str(len(self.ports))]

    def environment(self) -> Mapping[str, str]:
        source, library = self.log.with_name("fixed_ports.c"), self.log.with_name("fixed_ports.so")
        source.write_text(_FIXED_PORTS)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        ports = " ".join(map(str, self.ports))
        return {"LD_PRELOAD": str(library), "FIXED_PORTS": ports, "PYTHONPATH": str(ROOT)}

    def answers(self) -> bool:
        try:
            for port in self.ports:
                socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return False
        return True

    def make_topic(self) -> str:
        """A new one: the mock makes each that it is asked for by its name."""
        topic = f"t{uuid4().hex}"
        self.ask_for(topic)
        return topic

    def ask_for(self, topic: str) -> None:
        """So that it is there."""
        Producer({"bootstrap.servers": self.servers}).list_topics(topic, timeout=_SECONDS)

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


def _serve(brokers: int) -> None:
    cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": brokers, "log_level": 0})
    cluster.list_topics(timeout=_SECONDS)
    signal.pause()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
