"""
An id is published to NATS once a stream of JetStream has answered that it keeps the message.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from collectord.concurrency.tasks import gather
from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.publish.natskeys import read_credentials
from collectord.testing import make_crash
from collectord.testing.running import in_reactor
from tests.support.cases import first_quick, for_each
from tests.support.clocked import ClockedReactor
from tests.support.daemon import free_port
from tests.support.natswire import STREAM, FakeNats, acknowledgement

SUBJECT = "socorro.standard"
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"


@frozen
class Rig:
    """A server, and publishers to it, whose time limits pass when a test says so."""

    server: FakeNats
    clock: ClockedReactor
    made: list[ICrashPublisher]

    def publisher(self, login: str = "crash:wr0ng@", **settings: Any) -> ICrashPublisher:
        return self.at(f"nats://{login}127.0.0.1:{self.server.port}", self.clock, **settings)

    def at(self, url: str, clock: Any, **settings: Any) -> ICrashPublisher:
        table = {"type": "nats", "url": url, **settings}
        self.made.append(make_plugin(PUBLISHERS, table, PluginContext(clock), "here").instance)
        return self.made[-1]


@pytest.fixture
def rig(clocked: ClockedReactor) -> Iterator[Rig]:
    made = Rig(FakeNats(), clocked, [])
    made.server.listen(reactor)
    yield made
    for publisher in made.made:
        pytest_twisted.blockon(Deferred.fromCoroutine(publisher.close()))
    pytest_twisted.blockon(Deferred.fromCoroutine(made.server.close()))


@pytest.mark.parametrize("pieces", [0, 1], ids=["in one piece", "a byte at a time"])
@in_reactor
async def test_a_message_is_the_bare_id(rig: Rig, pieces: int) -> None:
    rig.server.pieces = pieces
    crash = make_crash()
    await rig.publisher().publish(crash)
    ((subject, reply, payload),) = rig.server.messages
    assert (subject, payload) == (SUBJECT, crash.crash_id.encode())
    assert reply.startswith("_INBOX.")
    (hello,) = rig.server.hellos
    assert (hello["user"], hello["pass"], hello["no_responders"]) == ("crash", "wr0ng", True)


@in_reactor
async def test_many_at_once_share_one_connection(rig: Rig) -> None:
    made = rig.publisher()
    await gather(made.publish(make_crash()) for _ in range(50))
    assert (len({payload for _, _, payload in rig.server.messages}), rig.server.opened) == (50, 1)


@in_reactor
async def test_an_answer_confirms_its_own_id_only(rig: Rig) -> None:
    rig.server.answers[SUBJECT] = None
    made = rig.publisher()
    works = [Deferred.fromCoroutine(made.publish(make_crash())) for _ in range(3)]
    await rig.server.until(lambda: len(rig.server.messages) == 3)
    connection = rig.server.connections[0]
    connection.answer(rig.server.messages[1][1], acknowledgement())
    await works[1]
    assert [work.called for work in works] == [False, True, False]
    connection.transport.loseConnection()  # type: ignore[union-attr]
    for work in (works[0], works[2]):
        with pytest.raises(PublishError, match="Connection"):
            await work


@in_reactor
async def test_cancelled_it_waits_no_longer(rig: Rig) -> None:
    rig.server.answers[SUBJECT] = None
    made = rig.publisher()
    publishing = Deferred.fromCoroutine(made.publish(make_crash()))
    await rig.server.until(lambda: rig.server.messages)
    publishing.cancel()
    with pytest.raises(CancelledError):
        await publishing
    rig.server.answers.clear()
    await made.publish(make_crash())
    assert rig.server.opened == 2  # nothing was heard in between, so the connection was dropped


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(
            b'{"error": {"code": 503, "err_code": 10077, "description": "maximum messages exceeded"}}',
            r"maximum messages exceeded \(10077\)",
            id="the stream is full",
        ),
        pytest.param(b'{"ok": true}', "no stream has confirmed the id, but somebody else", id="somebody else"),
        pytest.param(b"thanks", "is not JSON", id="no JSON"),
        pytest.param(b"[]", "is not the stream's", id="no object"),
        pytest.param(b"", "is not JSON", id="nothing"),
    ],
)
@in_reactor
async def test_what_does_not_confirm_an_id(rig: Rig, answer: bytes, why: str) -> None:
    rig.server.answers[SUBJECT] = answer
    made = rig.publisher()
    with pytest.raises(PublishError, match=f"^nats {SUBJECT}: .*{why}"):
        await made.publish(make_crash())
    rig.server.answers.clear()
    await made.publish(make_crash())
    assert rig.server.opened == 1


@in_reactor
async def test_a_subject_that_nobody_listens_to(rig: Rig) -> None:
    rig.server.answers[SUBJECT] = None
    publishing = Deferred.fromCoroutine(rig.publisher().publish(make_crash()))
    await rig.server.until(lambda: rig.server.messages)
    rig.server.connections[0].nobody(rig.server.messages[0][1])
    with pytest.raises(PublishError, match="no stream takes this subject"):
        await publishing


@in_reactor
async def test_what_may_not_be_published_is_told_and_costs_nobody_else_anything(rig: Rig) -> None:
    rig.server.answers[SUBJECT] = None
    made = rig.publisher()
    publishing = Deferred.fromCoroutine(made.publish(make_crash()))
    await rig.server.until(lambda: rig.server.messages)
    rig.server.connections[0].write(f"-ERR 'Permissions Violation for Publish to \"{SUBJECT}\"'\r\n".encode())
    with pytest.raises(PublishError, match="Permissions Violation for Publish"):
        await publishing
    rig.server.answers.clear()
    await made.publish(make_crash())
    assert rig.server.opened == 1


@in_reactor
async def test_an_error_about_the_connection_ends_it(rig: Rig) -> None:
    rig.server.answers[SUBJECT] = None
    made = rig.publisher()
    publishing = Deferred.fromCoroutine(made.publish(make_crash()))
    await rig.server.until(lambda: rig.server.messages)
    rig.server.connections[0].write(b"-ERR 'Stale Connection'\r\n")
    with pytest.raises(PublishError, match="Stale Connection"):
        await publishing
    rig.server.answers.clear()
    await made.publish(make_crash())
    assert rig.server.opened == 2


@in_reactor
async def test_a_server_is_told_that_the_client_lives(rig: Rig) -> None:
    made = rig.publisher()
    await made.publish(make_crash())
    rig.server.connections[0].write(b"+OK\r\nINFO {}\r\nPING\r\n")
    await rig.server.until(lambda: "PONG" in rig.server.lines)


@first_quick(
    "garbage",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="a web server"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x28", id="TLS"),
        pytest.param(b"INFO {\r\n", id="no JSON"),
        pytest.param(b"INFO []\r\n", id="no object"),
        pytest.param(b"INFO {}\r\nMSG x 1 99999999999\r\n", id="a message of 100 GB"),
        pytest.param(b"INFO {}\r\nHMSG x 1 9 5\r\n", id="more headers than message"),
        pytest.param(b"INFO {" + b"x" * 3_000_000, id="a line without an end"),
    ],
)
@in_reactor
async def test_what_does_not_speak_nats_is_told(rig: Rig, garbage: bytes) -> None:
    rig.server.greeting = garbage
    with pytest.raises(PublishError, match=r"does not speak NATS|sends a (line|message)") as told:
        await rig.publisher().check()
    assert len(str(told.value)) < 300
    await rig.server.until(lambda: not rig.server.connections)


@in_reactor
async def test_tls_that_the_server_does_not_offer_is_not_left_out(rig: Rig) -> None:
    made = rig.at(f"tls://crash:wr0ng@127.0.0.1:{rig.server.port}", rig.clock)
    with pytest.raises(PublishError, match="it offers no TLS"):
        await made.publish(make_crash())
    assert rig.server.hellos == []


@in_reactor
async def test_a_server_that_does_not_answer_gets_a_new_connection(rig: Rig) -> None:
    rig.server.answers[SUBJECT] = None
    made = rig.publisher()
    publishing = Deferred.fromCoroutine(made.publish(make_crash()))
    await rig.server.until(lambda: rig.server.messages)
    rig.clock.advance(5)
    with pytest.raises(PublishError, match="nothing for 5 s"):
        await publishing
    rig.server.answers.clear()
    await made.publish(make_crash())
    assert rig.server.opened == 2


@in_reactor
async def test_a_server_that_never_greets_is_given_up(rig: Rig) -> None:
    rig.server.greeting = b""
    checking = Deferred.fromCoroutine(rig.publisher().check())
    await rig.server.until(lambda: rig.server.connections)
    rig.clock.advance(5)
    with pytest.raises(PublishError, match="no answer"):
        await checking
    await rig.server.until(lambda: not rig.server.connections)


@pytest.mark.slow
@in_reactor
async def test_the_servers_are_tried_one_after_the_other(rig: Rig) -> None:
    gone = free_port()
    made = rig.at(f"nats://127.0.0.1:{gone},127.0.0.1:{rig.server.port}", reactor)
    await made.publish(make_crash())
    assert len(rig.server.messages) == 1
    nowhere = rig.at(f"nats://127.0.0.1:{gone},127.0.0.1:{free_port()}", reactor)
    with pytest.raises(PublishError, match=f"127.0.0.1:{gone}: Connection was refused [^;]*; 127.0.0.1:"):
        await nowhere.check()


@in_reactor
async def test_closed_while_it_connects_it_keeps_no_connection(rig: Rig) -> None:
    made = rig.publisher()
    checking = Deferred.fromCoroutine(made.check())
    await made.close()
    with pytest.raises(PublishError, match="the publisher is closed"):
        await checking
    await rig.server.until(lambda: not rig.server.connections)


# ——— the check ———


@in_reactor
async def test_a_check_publishes_nothing_and_tells_what_the_stream_can_not_promise(rig: Rig) -> None:
    rig.server.answers[f"{STREAM}.NAMES"] = b'{"streams": ["CRASHES"]}'
    config = {"storage": "memory", "retention": "interest", "discard": "old", "max_msgs": 7, "max_age": 1_000_000_000}
    rig.server.answers[f"{STREAM}.INFO.CRASHES"] = json.dumps({"config": config, "state": {}}).encode()
    made: Any = rig.publisher()
    await made.check()
    assert [subject for subject, _, _ in rig.server.messages] == [f"{STREAM}.NAMES", f"{STREAM}.INFO.CRASHES"]
    assert rig.server.messages[0][2] == json.dumps({"subject": SUBJECT}).encode()
    assert len(made.cautions) == 4
    kept = {"storage": "file", "retention": "limits", "discard": "new", "max_msgs": 7, "max_age": 0}
    rig.server.answers[f"{STREAM}.INFO.CRASHES"] = json.dumps({"config": kept, "state": {}}).encode()
    await made.check()
    assert made.cautions == []
    one_subject = {**kept, "max_msgs_per_subject": 5}
    rig.server.answers[f"{STREAM}.INFO.CRASHES"] = json.dumps({"config": one_subject, "state": {}}).encode()
    await made.check()
    assert ["keeps the last 5 ids only" in each for each in made.cautions] == [True]
    refusing = {**one_subject, "discard_new_per_subject": True}
    rig.server.answers[f"{STREAM}.INFO.CRASHES"] = json.dumps({"config": refusing, "state": {}}).encode()
    await made.check()
    assert made.cautions == []


@in_reactor
async def test_a_check_tells_that_no_stream_takes_the_subject(rig: Rig) -> None:
    rig.server.answers[f"{STREAM}.NAMES"] = b'{"total": 0, "streams": null}'
    with pytest.raises(PublishError, match="no stream takes this subject"):
        await rig.publisher().check()


# ——— who it is ———


@in_reactor
async def test_a_token(rig: Rig) -> None:
    await rig.publisher(login="t%40ken@").publish(make_crash())
    assert rig.server.hellos[0]["auth_token"] == "t@ken"


@pytest.mark.parametrize("jwt", ["", "ey.J0.x"], ids=["a key alone", "a token and a key"])
@in_reactor
async def test_a_key_signs_what_the_server_asks_for(rig: Rig, tmp_path: Path, jwt: str) -> None:
    file = tmp_path / "user.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
        if jwt
        else f"{SEED}\n"
    )
    await rig.publisher(login="", credentials_file=str(file)).publish(make_crash())
    hello = rig.server.hellos[0]
    assert (hello.get("jwt"), hello.get("nkey")) == ((jwt, None) if jwt else (None, read_credentials(file).public_key))
    raw = base64.b32decode(read_credentials(file).public_key)[1:33]
    signature = base64.urlsafe_b64decode(hello["sig"] + "==")
    Ed25519PublicKey.from_public_bytes(raw).verify(signature, b"once")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(None, "No such file", id="no file"),
        pytest.param("secret", "no seed of a user", id="no seed"),
        pytest.param(SEED[:-4] + "AAAA", "is damaged", id="a wrong checksum"),
    ],
)
def test_credentials_that_can_not_be_used(tmp_path: Path, content: str | None, why: str) -> None:
    file = tmp_path / "user.creds"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=f"credentials_file = .*{why}") as told:
        make_plugin(PUBLISHERS, {"type": "nats", "credentials_file": str(file)}, PluginContext(None), "here")
    assert content is None or content not in str(told.value)


@for_each(
    ("settings", "why"),
    [
        pytest.param({"url": "http://x"}, "must be nats://<user>:<password>@<host>", id="scheme"),
        pytest.param({"url": "nats://x:port"}, "must be nats://", id="port"),
        pytest.param({"url": "nats://x/S3CR3T"}, "must be nats://", id="path"),
        pytest.param({"url": "nats://x,"}, "must be nats://", id="an empty host"),
        pytest.param({"subject": "crashes.*"}, "subject: must be a subject", id="a wildcard"),
        pytest.param({"subject": "two words"}, "subject", id="a blank"),
        pytest.param({"url": "nats://u:p@x", "credentials_file": "x"}, "not in both", id="two users"),
    ],
)
def test_settings_that_can_not_be(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as told:
        make_plugin(PUBLISHERS, {"type": "nats", **settings}, PluginContext(None), "here")
    assert "S3CR3T" not in str(told.value)
