"""
The settings of the publisher to Kafka; tests/e2e/test_e2e_kafka.py tries it with brokers.
"""

from typing import Any

import pytest

from collectord.errors import ConfigError
from collectord.plugins import PUBLISHERS, PluginContext, make_plugin
from tests.support.cases import for_each
from tests.support.fakereactor import FakeReactor


def publisher(servers: str, **more: Any) -> Any:
    table = {"type": "kafka", "servers": servers} | more
    return make_plugin(PUBLISHERS, table, PluginContext(FakeReactor()), "here").instance


@for_each(
    ("more", "reported"),
    [
        pytest.param({"servers": ""}, "servers: ", id="no servers"),
        pytest.param({"servers": "kafka://x:9092"}, "servers: must be host:port", id="a scheme"),
        pytest.param({"user": "u"}, "set both user and password", id="no password"),
        pytest.param({"password": "p"}, "set both user and password", id="no user"),
        pytest.param({"topic": "a b"}, "topic: ", id="topic"),
        pytest.param({"mechanism": "GSSAPI"}, "mechanism: ", id="mechanism"),
        pytest.param({"options": {"no.such": 1}}, 'No such configuration property: "no.such"', id="unknown option"),
        pytest.param({"options": {"acks": 0}}, "options: acks is set by collectord itself", id="an option of ours"),
        pytest.param({"options": {"retries": "many"}}, "retries", id="a bad option"),
        pytest.param({"ca_file": "/nowhere/ca.pem"}, "/nowhere/ca.pem", id="no such file"),
    ],
)
def test_settings_that_can_t_be(more: dict[str, Any], reported: str) -> None:
    with pytest.raises(ConfigError) as error:
        publisher(**({"servers": "localhost:9092"} | more))
    assert reported in str(error.value)


def test_no_secret_is_shown() -> None:
    with pytest.raises(ConfigError) as error:
        publisher("localhost:9092", user="u", password="S3CR3T", options={"sasl.password": "S3CR3T"})
    assert "S3CR3T" not in str(error.value)
