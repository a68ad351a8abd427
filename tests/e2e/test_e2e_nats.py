"""
The publisher to NATS JetStream against a real server, which is killed, stopped and brought back.
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
from collectord.model import Crash
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.publish.natskeys import read_credentials
from collectord.testing import Publisher, PublisherContract, make_crash
from collectord.testing.running import in_reactor
from tests.support.brokers import missing
from tests.support.certificates import Authority
from tests.support.daemon import free_port
from tests.support.natsserver import NatsServer

NO_NATS = missing("nats-server")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.skipif(bool(NO_NATS), reason=NO_NATS)]

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats") / "log") as server:
        yield server


def to(server: NatsServer, subject: str, **more: Any) -> ICrashPublisher:
    return at(f"nats://127.0.0.1:{server.port}", subject=subject, **more)


def at(url: str, **more: Any) -> ICrashPublisher:
    table = {"type": "nats", "url": url, **more}
    made: ICrashPublisher = make_plugin(PUBLISHERS, table, PluginContext(reactor), "here").instance
    return made


def a_name() -> str:
    return f"s{uuid4().hex}"


class TestNats(PublisherContract):
    @pytest.fixture
    def subject(self, server: NatsServer) -> Publisher:
        stream = a_name()
        server.make(stream, f"{stream}.*")

        async def published() -> Sequence[str]:
            return await deferToThread(server.in_stream, stream)

        return Publisher(
            lambda: to(server, f"{stream}.standard"), published, lambda: at(f"nats://127.0.0.1:{free_port()}")
        )


@in_reactor
async def test_a_subject_that_no_stream_takes(server: NatsServer) -> None:
    made = to(server, "nobody.listens")
    for work in (made.check(), made.publish(make_crash())):
        with pytest.raises(PublishError, match=r"^nats nobody\.listens: no stream takes this subject"):
            await work
    await made.close()


@in_reactor
async def test_a_server_without_jetstream_is_told(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "log")
    plain = server.command()
    (tmp_path / "nats.conf").write_text(f"listen: 127.0.0.1:{server.port}\n")

    class Plain(NatsServer):
        def command(self) -> Sequence[str]:
            return plain

        def answers(self) -> bool:
            try:
                return bool(self.api("INFO"))
            except ValueError:
                return True
            except OSError:
                return False

    with Plain(tmp_path / "log", port=server.port) as running:
        made = to(running, "any")
        with pytest.raises(PublishError, match="JetStream is not enabled"):
            await made.check()
        await made.close()


@in_reactor
async def test_a_stream_that_is_full(server: NatsServer) -> None:
    stream = a_name()
    server.make(stream, stream, max_msgs=1, discard="new")
    made: Any = to(server, stream)
    await made.check()
    assert made.cautions == []
    await made.publish(make_crash())
    with pytest.raises(PublishError, match="maximum messages exceeded"):
        await made.publish(make_crash())
    await made.close()


@pytest.mark.parametrize(
    ("config", "caution"),
    [
        pytest.param({"storage": "memory"}, "keeps ids in memory only", id="in memory"),
        pytest.param({"retention": "interest"}, "drops each id at once", id="interest without a consumer"),
        pytest.param({"max_bytes": 100_000}, "drops its oldest ids", id="drops the oldest"),
        pytest.param(
            {"max_msgs_per_subject": 1, "discard": "new"}, "keeps the last 1 ids only", id="one for each subject"
        ),
        pytest.param({"max_age": 3_600_000_000_000}, "drops ids after 3600 s", id="lets them expire"),
    ],
)
@in_reactor
async def test_what_is_said_of_a_stream_that_may_lose_ids(
    server: NatsServer, config: dict[str, Any], caution: str
) -> None:
    stream = a_name()
    server.make(stream, stream, **config)
    made: Any = to(server, stream)
    await made.check()
    assert [caution in each for each in made.cautions] == [True]
    await made.close()


@in_reactor
async def test_a_server_that_is_stopped_and_goes_on(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "log") as server:
        server.make("crashes", "crashes")
        made = to(server, "crashes", timeout_s=2.0)
        await made.check()
        server.freeze()
        try:
            for why in ("nothing for 1 s", "no answer"):  # on the open connection, and on a new one
                with pytest.raises(PublishError, match=why):
                    await made.publish(make_crash())
        finally:
            server.signal(signal.SIGCONT)
        crash = make_crash()
        await published(made, crash)
        assert crash.crash_id in await deferToThread(server.in_stream, "crashes")
        await made.close()


async def published(made: ICrashPublisher, crash: Crash) -> None:
    """Publish as the crashmover does, again and again: a server that goes on may be slow at first."""
    for _ in range(9):
        try:
            return await made.publish(crash)
        except PublishError:
            pass
    await made.publish(crash)


@in_reactor
async def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "log") as server:
        server.make("crashes", "crashes")
        made = to(server, "crashes")
        first, second = make_crash(), make_crash()
        await made.publish(first)
        await deferToThread(server.kill)
        with pytest.raises(PublishError, match="Connection"):
            await made.publish(make_crash())
        await deferToThread(server.start)
        await made.publish(second)
        assert await deferToThread(server.in_stream, "crashes") == [first.crash_id, second.crash_id]
        await made.close()


@in_reactor
async def test_of_several_servers_one_that_answers_is_used(server: NatsServer) -> None:
    stream = a_name()
    server.make(stream, stream)
    made = at(f"nats://127.0.0.1:{free_port()},127.0.0.1:{server.port}", subject=stream)
    await made.publish(make_crash())
    assert len(await deferToThread(server.in_stream, stream)) == 1
    await made.close()


@in_reactor
async def test_users(tmp_path: Path) -> None:
    (tmp_path / "user.nk").write_text(f"{SEED}\n")
    key = read_credentials(tmp_path / "user.nk").public_key
    config = (
        "authorization { users = [ {user: all, password: 'p@ss'}, "
        f"{{nkey: {key}}}, "
        "{user: few, password: few, permissions: {publish: [crashes], subscribe: ['_INBOX.>']}}, "
        "{user: deaf, password: deaf, permissions: {publish: ['>'], subscribe: ['mine.>']}} ] }"
    )
    login = {"user": "all", "pass": "p@ss"}
    with NatsServer(tmp_path / "log", config=config, login=login) as server:
        server.make("crashes", "crashes")
        where = f"127.0.0.1:{server.port}"
        for url, more, problem in (
            (f"nats://all:p%40ss@{where}", {}, ""),
            (f"nats://{where}", {"credentials_file": str(tmp_path / "user.nk")}, ""),
            (f"nats://all:wrong@{where}", {}, f"{where}: Authorization Violation"),
            (f"nats://{where}", {}, f"{where}: Authorization Violation"),
            (f"nats://few:few@{where}", {}, 'Permissions Violation for Publish to "$JS.API.STREAM.NAMES"'),
            (f"nats://deaf:deaf@{where}", {}, "Permissions Violation for Subscription"),
            (f"nats://deaf:deaf@{where}", {"inbox": "mine"}, ""),
        ):
            made = at(url, subject="crashes", **more)
            if problem:
                with pytest.raises(PublishError) as told:
                    await made.check()
                assert problem in str(told.value)
                assert "wrong" not in str(told.value)
            else:
                await made.check()
                await made.publish(make_crash())
            await made.close()


@in_reactor
async def test_over_tls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    own = authority.sign()
    config = f"tls {{ cert_file: {own}, key_file: {own}, ca_file: {authority.file}, verify: true }}"

    class Tls(NatsServer):
        def answers(self) -> bool:
            return b"Server is ready" in self.log.read_bytes()

    with Tls(tmp_path / "log", config=config) as server:
        url = f"nats://localhost:{server.port}"
        files = {"ca_file": str(authority.file), "cert_file": str(authority.sign("client"))}
        made = at(url, subject="crashes", **files)
        with pytest.raises(PublishError, match="no stream takes this subject"):
            await made.check()
        await made.close()
        only_ca = {"ca_file": files["ca_file"]}
        for table, why in (({}, "an authority has signed it that is not trusted"), (only_ca, "TLS fails|Connection")):
            made = at(url, **table)
            with pytest.raises(PublishError, match=why):
                await made.check()
            await made.close()
