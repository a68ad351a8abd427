"""
The queues that crash ids are published to, each with a server that a test owns, kills, stops and brings back.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from attrs import define, field
from redis import Redis

from tests.support.brokers import RedisServer, make_queue, missing, rabbit_server, rabbitmq_url, taken_from
from tests.support.kafkacluster import KafkaCluster
from tests.support.natsserver import NatsServer
from tests.support.server import Server
from tests.support.sqsserver import SqsServer

_NAME = "crashes"
_DURABLE_S = 6.0
"""A kill just after a queue of RabbitMQ was declared was seen to lose it, and all that the broker had confirmed."""


@define
class Queue:
    """
    A queue and its server.

    @ivar settings: of the publisher.
    @ivar forgets: what the server has got is gone when it is killed, so all has to be read just before.
    @ivar ids: how often each id was read.
    @ivar _read: reads the ids that the server has got since the last time.
    @ivar _make: makes the queue, which does not outlive the server.
    """

    settings: Mapping[str, object]
    server: Server
    _read: Callable[[], list[str]]
    _make: Callable[[], object] = lambda: None
    forgets: bool = False
    ids: Counter[str] = field(factory=Counter)

    @property
    def toml(self) -> str:
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.settings.items()]
        return "\n".join(["[[crashmover.publisher]]", *lines, ""])

    def look(self) -> None:
        """Read what the server has got; it runs."""
        self.ids.update(self._read())

    def bring_back(self) -> None:
        """Start the server again."""
        self.server.start()
        self._make()


@contextmanager
def _rabbitmq(directory: Path) -> Iterator[Queue]:
    with rabbit_server() as server:

        def read() -> list[str]:
            return [crash_id for crash_id, _ in taken_from(server.port, _NAME)]

        make_queue(server.port, _NAME)
        time.sleep(_DURABLE_S)
        yield Queue({"type": "rabbitmq", "url": rabbitmq_url(server.port), "queue": _NAME}, server, read)


@contextmanager
def _redis(directory: Path) -> Iterator[Queue]:
    with RedisServer(directory / "output") as server:
        last = b"-"

        def read() -> list[str]:
            nonlocal last
            with Redis(port=server.port) as client:
                entries = client.xrange(_NAME, min=last)
            last = b"(" + entries[-1][0] if entries else last
            return [fields[b"crash_id"].decode() for _, fields in entries]

        yield Queue({"type": "redis", "url": f"redis://127.0.0.1:{server.port}/0", "stream": _NAME}, server, read)


@contextmanager
def _nats(directory: Path) -> Iterator[Queue]:
    with NatsServer(directory / "output") as server:
        server.make(_NAME, _NAME)
        known = 0

        def read() -> list[str]:
            nonlocal known
            found = server.in_stream(_NAME, after=known)
            known += len(found)
            return found

        yield Queue({"type": "nats", "url": f"nats://127.0.0.1:{server.port}", "subject": _NAME}, server, read)


@contextmanager
def _kafka(directory: Path) -> Iterator[Queue]:
    with KafkaCluster(directory / "output") as server:
        known = Counter[str]()

        def read() -> list[str]:
            nonlocal known
            found = Counter(value.decode() for _, value in server.messages(_NAME) if value)
            new = found - known
            known = found
            return list(new.elements())

        def make() -> None:
            server.ask_for(_NAME)
            known.clear()

        make()
        yield Queue({"type": "kafka", "servers": server.servers, "topic": _NAME}, server, read, make, forgets=True)


@contextmanager
def _sqs(directory: Path) -> Iterator[Queue]:
    with SqsServer(directory / "output") as server:
        known = 0

        def read() -> list[str]:
            nonlocal known
            found = server.got()[known:]
            known += len(found)
            return found

        settings = {"type": "sqs", "queue_url": server.make(_NAME), "access_key": "any", "secret_key": "any"}
        yield Queue(settings, server, read, lambda: server.make(_NAME))


QUEUES: Mapping[str, tuple[str, Callable[[Path], AbstractContextManager[Queue]]]] = {
    "redis": (missing("redis-server"), _redis),
    "rabbitmq": (missing("rabbitmq-server", "setpriv"), _rabbitmq),
    "nats": (missing("nats-server"), _nats),
    "kafka": (missing("gcc"), _kafka),
    "sqs": ("", _sqs),
}
"""What is missing here for each of them, and what runs it, with its files in a directory."""
