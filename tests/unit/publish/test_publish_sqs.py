"""
An id is published to SQS once its server has answered with the checksum of the message.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from collectord.publish.sqs import SqsSettings
from collectord.testing import make_crash
from collectord.testing.running import in_reactor
from tests.support.cases import first_quick, for_each
from tests.support.httpwire import WireServer, answer

KEYS = {"access_key": "any", "secret_key": "S3CR3T"}


@pytest.fixture(scope="module", autouse=True)
def _descriptions_are_read_once() -> Iterator[None]:
    """What the library knows of Amazon's services: it would read all of it anew for each client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


def publisher(url: str, **more: Any) -> ICrashPublisher:
    table = {"type": "sqs", "queue_url": url, **KEYS, **more}
    made: ICrashPublisher = make_plugin(PUBLISHERS, table, PluginContext(reactor), "here").instance
    return made


@pytest.fixture
def to_queue(server: WireServer) -> Iterator[ICrashPublisher]:
    made = publisher(server.url("/123456789012/crashes"))
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


def says(body: str, status: int = 200) -> bytes:
    return answer(status, body.encode(), b"Content-Type: application/x-amz-json-1.0")


def kept(*crash_ids: str) -> bytes:
    """What is answered if all of them are kept."""
    return says(json.dumps({"Successful": [success(number, each) for number, each in enumerate(crash_ids)]}))


def success(number: int, crash_id: str) -> dict[str, str]:
    md5 = hashlib.md5(crash_id.encode(), usedforsecurity=False).hexdigest()
    return {"Id": str(number), "MessageId": "1", "MD5OfMessageBody": md5}


@in_reactor
async def test_a_message_is_the_bare_id(server: WireServer, to_queue: ICrashPublisher) -> None:
    crash = make_crash()
    server.answers = [kept(crash.crash_id)]
    await to_queue.publish(crash)
    (request,) = server.requests
    assert request.headers["x-amz-target"] == "AmazonSQS.SendMessageBatch"
    assert json.loads(request.body) == {
        "QueueUrl": server.url("/123456789012/crashes"),
        "Entries": [{"Id": "0", "MessageBody": crash.crash_id}],
    }


@in_reactor
async def test_to_a_fifo_queue_an_id_that_comes_again_is_no_second_message(server: WireServer) -> None:
    made = publisher(server.url("/123456789012/crashes.fifo"))
    crash = make_crash()
    server.answers = [kept(crash.crash_id)]
    await made.publish(crash)
    (sent,) = json.loads(server.requests[0].body)["Entries"]
    assert (sent["MessageGroupId"], sent["MessageDeduplicationId"]) == ("crashes", crash.crash_id)
    await made.close()


@in_reactor
async def test_ids_that_wait_go_together_and_each_is_confirmed_for_itself(
    server: WireServer, to_queue: ICrashPublisher
) -> None:
    server.answers = [None]
    crashes = [make_crash() for _ in range(5)]
    works = [Deferred.fromCoroutine(to_queue.publish(crash)) for crash in crashes]
    await server.until(lambda: len(server.requests) == 2)
    works[3].cancel()
    with pytest.raises(CancelledError):
        await works[3]
    third, last = crashes[2].crash_id, crashes[4].crash_id
    failed = {"Id": "1", "Code": "InternalError", "Message": "try again", "SenderFault": False}
    server.answers = [says(json.dumps({"Successful": [success(0, third)], "Failed": [failed]}))]
    for connection in list(server.connections):
        connection.transport.loseConnection()  # type: ignore[union-attr]
    for lost in works[:2]:
        with pytest.raises(PublishError, match="Connection was closed"):
            await lost
    await works[2]
    with pytest.raises(PublishError, match="the server refuses the message: InternalError: try again"):
        await works[4]
    sent = [entry["MessageBody"] for entry in json.loads(server.requests[2].body)["Entries"]]
    assert sent == [third, last]


@first_quick(
    ("response", "why"),
    [
        pytest.param(says("{}"), "None for the MD5", id="an empty answer"),
        pytest.param(kept("another"), "for the MD5 of the id", id="another message"),
        pytest.param(answer(200, b"<html>please log in</html>"), "", id="a page"),
        pytest.param(answer(503, b"<html>busy</html>"), "answered 503", id="503"),
        pytest.param(
            answer(404, b"<html>\n<p>no such page</p>" + b"x" * 5000), "answered 404: no such page x", id="404"
        ),
        pytest.param(answer(302, b"", b"Location: /login"), "", id="a redirect"),
        pytest.param(
            says('{"__type": "com.amazon.coral.service#AccessDeniedException", "message": "not allowed"}', 403),
            "answered 403 AccessDeniedException: not allowed",
            id="no right to send",
        ),
        pytest.param(
            says('{"__type": "InvalidSignatureException", "message": "Signature expired: 1 is earlier than 2"}', 400),
            "answered 400 InvalidSignatureException: Signature expired: 1 is earlier than 2",
            id="a clock that is behind",
        ),
    ],
)
@in_reactor
async def test_what_does_not_confirm_an_id(
    server: WireServer, to_queue: ICrashPublisher, response: bytes, why: str
) -> None:
    server.answers = [response]
    with pytest.raises(PublishError, match=f"^sqs crashes: .*{why}") as told:
        await to_queue.publish(make_crash())
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400
    assert "S3CR3T" not in str(told.value)
    assert len(server.requests) == 1  # the pauses between attempts are the crashmover's


@in_reactor
async def test_cancelled_it_waits_no_longer(server: WireServer) -> None:
    server.answers = [None]
    made = publisher(server.url("/1/crashes"), timeout_s=0.2)
    publishing = Deferred.fromCoroutine(made.publish(make_crash()))
    publishing.cancel()
    with pytest.raises(CancelledError):
        await publishing
    await made.close()


@first_quick(
    ("url", "region", "endpoint"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "eu-west-1", "https://sqs.eu-west-1.amazonaws.com"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1", "https://sqs.cn-north-1.amazonaws.com.cn"),
        ("https://queue.example.com:9/1/q", "us-east-1", "https://queue.example.com:9"),
    ],
    ids=["amazon", "china", "another server"],
)
def test_the_url_of_the_queue_tells_the_region_and_the_server(
    monkeypatch: pytest.MonkeyPatch, url: str, region: str, endpoint: str
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    client = SqsSettings(type="sqs", queue_url=url, **KEYS).client()  # type: ignore[arg-type]
    assert (client.meta.region_name, client.meta.endpoint_url) == (region, endpoint)
    client.close()


@for_each(
    ("settings", "why"),
    [
        pytest.param({"queue_url": "crashes"}, "must be https://host/account/queue", id="a name"),
        pytest.param({"queue_url": "https://u:S3CR3T@host/1/q"}, "must be https://host/account/queue", id="a password"),
        pytest.param({"queue_url": "https://host/"}, "must be https://host/account/queue", id="no queue"),
        pytest.param({"access_key": ""}, "set both", id="half of the keys"),
        pytest.param({"access_key": "", "secret_key": "", "session_token": "S3CR3T"}, "needs access_key", id="no keys"),
        pytest.param({"profile": "p"}, "set either profile or access_key", id="a profile and keys"),
        pytest.param(
            {"queue_url": "http://host/1/q", "ca_file": Path("/nowhere.pem")},
            "needs an https",
            id="ca_file without TLS",
        ),
        pytest.param({"ca_file": Path("/nowhere.pem")}, "there is no such file", id="no ca_file"),
    ],
)
def test_settings_that_can_not_be(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as told:
        publisher(
            **{"url": "https://host/1/q"} | {"url" if key == "queue_url" else key: settings[key] for key in settings}
        )
    assert "S3CR3T" not in str(told.value)


@in_reactor
async def test_an_answer_without_a_type_is_believed_if_it_can_be_read(
    server: WireServer, to_queue: ICrashPublisher
) -> None:
    server.answers = [answer(200, b'{"Attributes": {"QueueArn": "arn:aws:sqs:us-east-1:1:q"}}')]
    await to_queue.check()


@in_reactor
async def test_what_is_no_sqs_is_not_taken_for_one(server: WireServer, to_queue: ICrashPublisher) -> None:
    """A captive portal answers everything with its page, and 200."""
    for data, said in (
        (
            answer(200, b"<html><title>Hotel Wi-Fi</title></html>", b"Content-Type: text/html; charset=utf-8"),
            "text/html",
        ),
        (answer(200, b"OK", b"Content-Type: text/plain"), "text/plain"),
        (answer(200), "of no type"),
        (says("[]"), "no JSON of it"),
    ):
        server.answers = [data]
        for work in (to_queue.check(), to_queue.publish(make_crash())):
            with pytest.raises(PublishError, match="sqs crashes: what answers is no SQS") as told:
                await work
            assert said in str(told.value)
