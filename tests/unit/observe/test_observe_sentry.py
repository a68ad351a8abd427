"""
What Sentry hears: the real SDK, and a server on loopback that takes what it sends.
"""

import gc
import gzip
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import brotli
import pytest
from attrs import frozen
from twisted.internet.defer import succeed
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure

from collectord.errors import ConfigError
from collectord.observe.sentry import SentryObserver, sentry_observer
from collectord.settings.schema import Sentry
from tests.support.cases import for_each
from tests.support.recording import Recorder, Request, recording
from tests.support.wait import until

SECRET = "s3kr1t-annotation"
ADDRESS = "203.0.113.77"


@frozen
class Rig:
    """An observer, a logger that it hears, and what arrived."""

    recorder: Recorder
    observer: SentryObserver
    log: Logger
    foreign: Logger

    def events(self) -> list[dict[str, Any]]:
        """All of them: the observer is closed by this."""
        self.observer.close()
        items = []
        for request in self.recorder.requests:
            _, *lines = self.body(request).splitlines()
            items += [json.loads(line) for line in lines[1::2]]
        return items

    def payload(self) -> str:
        """All that was sent, in the clear, with the headers."""
        return "".join(
            f"{request.target} {request.headers} {self.body(request).decode()}" for request in self.recorder.requests
        )

    @staticmethod
    def body(request: Request) -> bytes:
        encoding = request.headers.get("content-encoding", "identity")
        decompress: dict[str, Callable[[bytes], bytes]] = {"br": brotli.decompress, "gzip": gzip.decompress}
        return decompress.get(encoding, bytes)(request.body)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with recording(b"{}") as recorder:
        dsn = f"http://key@127.0.0.1:{recorder.port}/7"
        observer = sentry_observer(Sentry(dsn=dsn, environment="stage"), "1.2.3")
        assert observer is not None
        publisher = LogPublisher(observer)
        yield Rig(
            recorder, observer, Logger("collectord.collector", observer=publisher), Logger("other", observer=publisher)
        )
        observer.close()


def fails(annotation: str) -> None:
    """As code that works on a crash may fail, with everything in its message and its variables."""
    annotations = {"URL": annotation, "from": ADDRESS}
    try:
        raise KeyError(annotation)
    except KeyError as e:
        raise ValueError(f"{annotations} of {ADDRESS}") from e


def test_a_failure_arrives_once_with_its_place_and_its_cause(rig: Rig) -> None:
    try:
        fails(SECRET)
    except ValueError:
        rig.log.failure("{crash_id} could not be moved", crash_id=SECRET, client=ADDRESS)
    (event,) = rig.events()
    assert event["release"] == "collectord@1.2.3"
    assert event["environment"] == "stage"
    assert event["logger"] == "collectord.collector"
    assert event["logentry"]["message"] == "{crash_id} could not be moved"
    cause, error = event["exception"]["values"]
    assert [(it["type"], it["module"]) for it in (cause, error)] == [
        ("KeyError", "builtins"),
        ("ValueError", "builtins"),
    ]
    last = error["stacktrace"]["frames"][-1]
    assert (last["module"], last["function"]) == (fails.__module__, "fails")
    assert last["filename"] == "unit/observe/test_observe_sentry.py"
    assert last["lineno"] == fails.__code__.co_firstlineno + 6
    assert rig.recorder.requests[0].target == "/api/7/envelope/"


def test_nothing_of_what_was_worked_on_is_in_it(rig: Rig) -> None:
    try:
        fails(SECRET)
    except ValueError:
        rig.log.failure("{crash_id} could not be moved", crash_id=SECRET, client=ADDRESS)
        rig.foreign.failure(f"while {SECRET} came from {ADDRESS}")
    rig.log.critical("{why}", why=f"{SECRET} {ADDRESS}")
    assert len(rig.events()) == 3
    payload = rig.payload()
    for hidden in (SECRET, ADDRESS, "annotations", "203.0", "127.0.0", "/work/", "/home/", sys.executable):
        assert hidden not in payload.replace(f"127.0.0.1:{rig.recorder.port}", "")
    for key in (
        "vars",
        "user",
        "request",
        "breadcrumbs",
        "context_line",
        "pre_context",
        "abs_path",
        "modules",
        "extra",
    ):
        assert f'"{key}":' not in payload


def test_only_these_keys_are_sent(rig: Rig) -> None:
    rig.log.critical("it can't be")
    (event,) = rig.events()
    assert set(event) == {
        *("event_id", "timestamp", "platform", "level", "logger", "logentry"),
        *("release", "environment", "server_name", "sdk"),
    }
    assert event["server_name"] == socket.gethostname().partition(".")[0]


def test_ordinary_lines_do_not_arrive(rig: Rig) -> None:
    for level in LogLevel.iterconstants():
        if level is not LogLevel.critical:
            rig.log.emit(level, "{store} is not used", store="primary")
    rig.foreign.critical(f"while {SECRET}")  # nothing of it could be told
    rig.log.critical("this does")
    assert [event["logentry"]["message"] for event in rig.events()] == ["this does"]


def test_an_error_of_the_system_says_which(rig: Rig) -> None:
    try:
        os.stat(f"/nowhere/{SECRET}")
    except OSError:
        rig.log.failure("a crash could not be written")
    (event,) = rig.events()
    (error,) = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("FileNotFoundError", "ENOENT")
    assert SECRET not in rig.payload()


def test_a_deferred_that_nobody_looks_after(rig: Rig) -> None:
    seen: list[LogEvent] = []

    def is_told() -> bool:
        gc.collect()  # it is told when it goes; once may be too few, as another thread may be collecting
        return bool(seen)

    def observe(event: LogEvent) -> None:
        seen.append(event)
        rig.observer(event)

    globalLogPublisher.addObserver(cast(ILogObserver, observe))
    try:
        succeed(SECRET).addCallback(fails)
        until(is_told)
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, observe))
    (event,) = rig.events()
    assert event["exception"]["values"][-1]["stacktrace"]["frames"][-1]["function"] == "fails"
    assert SECRET not in rig.payload()


def test_a_failure_that_was_cleaned_and_one_without_a_traceback(rig: Rig) -> None:
    try:
        fails(SECRET)
    except ValueError:
        cleaned = Failure()
    cleaned.cleanFailure()
    rig.log.failure("one", cleaned)
    rig.log.failure("two", Failure(ValueError(SECRET)))
    one, two = rig.events()
    assert one["exception"]["values"][-1]["stacktrace"]["frames"][-1]["function"] == "fails"
    assert two["exception"]["values"][0]["type"] == "ValueError"
    assert SECRET not in rig.payload()


@pytest.mark.slow
def test_a_flood_is_cut_off_for_a_minute(rig: Rig) -> None:
    for second in range(59):
        rig.observer({"log_time": 1000.0 + second, "log_level": LogLevel.critical, "log_namespace": "collectord.x"})
    rig.observer({"log_time": 1060.0, "log_level": LogLevel.critical, "log_namespace": "collectord.later"})
    events = rig.events()
    assert len(events) == 21
    assert events[-1]["logger"] == "collectord.later"


@pytest.mark.slow
def test_a_server_that_hangs_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        observer = sentry_observer(Sentry(dsn=f"http://key@127.0.0.1:{hanging.getsockname()[1]}/7"), "1")
        assert observer is not None
        began = time.monotonic()
        for _ in range(20):
            observer({"log_time": 1.0, "log_level": LogLevel.critical, "log_namespace": "collectord.x"})
        assert time.monotonic() - began < 1
        observer.close()
        assert time.monotonic() - began < 5


def test_without_a_dsn_there_is_none() -> None:
    assert sentry_observer(Sentry(), "1") is None


@for_each(
    ("dsn", "why"),
    [
        ("nonsense", "Unsupported scheme"),
        ("ftp://k3y@host/1", "Unsupported scheme"),
        ("https://k3y@/1", "Missing hostname"),
        ("https://host/1", "Missing public key"),
        ("https://k3y@host/", "Invalid project"),
        ("https://k3y@host:port/1", "Port could not be cast"),
    ],
)
def test_a_malformed_dsn_stops_the_start(dsn: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"^\[sentry\] dsn = …: {why}.*; it looks like https://<key>@") as caught:
        sentry_observer(Sentry(dsn=dsn), "1")
    assert "k3y" not in str(caught.value)


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(ConfigError, match=r"sentry_sdk is missing: pip install 'collectord\[sentry\]'"):
        sentry_observer(Sentry(dsn="https://key@host/1"), "1")
    assert sentry_observer(Sentry(), "1") is None
