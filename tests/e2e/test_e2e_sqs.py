"""
The publisher to SQS against a real server (moto), which is killed, stopped and brought back.
"""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from collectord.errors import PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.testing import Publisher, PublisherContract, make_crash
from collectord.testing.running import in_reactor
from tests.support.daemon import free_port
from tests.support.sqsserver import SqsServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqsServer]:
    with SqsServer(tmp_path_factory.mktemp("sqs") / "moto.log") as server:
        yield server


def to(url: str, **more: Any) -> ICrashPublisher:
    table = {"type": "sqs", "queue_url": url, "access_key": "any", "secret_key": "S3CR3T", **more}
    made: ICrashPublisher = make_plugin(PUBLISHERS, table, PluginContext(reactor), "here").instance
    return made


class TestSqs(PublisherContract):
    @pytest.fixture(params=["", ".fifo"], ids=["standard", "fifo"])
    def subject(self, server: SqsServer, request: pytest.FixtureRequest) -> Publisher:
        url = server.make(f"q{uuid4().hex}{request.param}")

        async def published() -> Sequence[str]:
            return await deferToThread(server.taken_from, url)

        nowhere = f"http://127.0.0.1:{free_port()}/1/q"
        return Publisher(lambda: to(url), published, lambda: to(nowhere, timeout_s=2.0))


@in_reactor
async def test_a_queue_that_is_not_there(server: SqsServer) -> None:
    made = to(f"http://127.0.0.1:{server.port}/123456789012/nothing")
    for work in (made.check(), made.publish(make_crash())):
        with pytest.raises(PublishError, match=r"^sqs nothing: answered 400 .*NonExistentQueue") as told:
            await work
        assert "S3CR3T" not in str(told.value)
    await made.close()


@in_reactor
async def test_a_server_that_is_stopped_and_goes_on(server: SqsServer) -> None:
    url = server.make(f"q{uuid4().hex}")
    made = to(url, timeout_s=1.0)
    await made.check()
    server.freeze()
    try:
        for _ in range(2):
            with pytest.raises(PublishError, match="Read timeout on endpoint URL"):
                await made.publish(make_crash())
    finally:
        server.signal(signal.SIGCONT)
    crash = make_crash()
    await made.publish(crash)
    assert crash.crash_id in await deferToThread(server.taken_from, url)
    await made.close()


@in_reactor
async def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with SqsServer(tmp_path / "moto.log") as server:
        url = server.make("crashes")
        made = to(url)
        await made.publish(make_crash())
        await deferToThread(server.kill)
        with pytest.raises(PublishError, match=r"Could not connect|Connection was closed"):
            await made.publish(make_crash())
        await deferToThread(server.start)
        with pytest.raises(PublishError, match="NonExistentQueue"):  # what this server held is gone
            await made.check()
        server.make("crashes")
        await made.check()
        crash = make_crash()
        await made.publish(crash)
        assert await deferToThread(server.taken_from, url) == [crash.crash_id]
        await made.close()
