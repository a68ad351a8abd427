import json
from typing import Any

from twisted.internet.protocol import Factory
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from collectord.observe.logging.events import LineObserver
from tests.support.cases import for_each


def written(form: str, *events: dict[str, Any], level: str = "info", **options: Any) -> list[str]:
    out: list[bytes] = []

    def write(data: bytes) -> int:
        out.append(data)
        return len(data)

    observer = LineObserver(write, form, level, **options)
    for event in events:
        observer(event)
    observer.writer.close()
    return b"".join(out).decode().splitlines()


def event(text: str, level: LogLevel = LogLevel.info, **fields: Any) -> dict[str, Any]:
    return {"log_time": 1.5, "log_level": level, "log_namespace": "a.b", "log_format": text, **fields}


def test_text() -> None:
    assert written("text", event("{x} kept", x="é"))[0].endswith(" [a.b#info] é kept")


def test_each_line_says_which_process_writes_it() -> None:
    try:
        raise OSError("no")
    except OSError:
        failed = event("failed", LogLevel.critical, log_failure=Failure())
    lines = written("text", event("{x} kept", x=1), failed, process="worker 2")
    assert lines[0].endswith(" [a.b#info] worker 2: 1 kept")
    assert lines[1].endswith(" [a.b#critical] worker 2: failed")
    assert (lines[2], lines[-1]) == ("Traceback (most recent call last):", "builtins.OSError: no")
    (line,) = written("json", event("{x} kept", x=1), process="worker 2")
    assert (json.loads(line)["process"], json.loads(line)["message"]) == ("worker 2", "1 kept")


def test_the_lines_of_twisted_for_each_connection_and_port_are_left_out() -> None:
    """They name classes and addresses of memory, and say nothing to an operator."""
    factory = Factory()
    with capturedLogs() as events:
        factory.doStart()
        factory.doStop()
    assert len(events) == 2
    ports = [
        "_Nobody starting on 8000",
        "Site starting on '/run/a b'",
        "(TCP Port 8000 Closed)",
        "(UNIX Port '/a b' Closed)",
    ]
    said = "Timing out client: 127.0.0.1"
    old = [event("{log_text}", log_text=text) | {"log_namespace": "log_legacy"} for text in (*ports, said)]
    (line,) = written("text", *events, *old)
    assert line.endswith(f" [twisted#info] {said}")


@for_each(
    ("logger", "shown"),
    [
        ("collectord.crashmover.sink.Sink", "collectord.crashmover.sink.Sink"),
        ("collectord.daemon.workers.moving._StoreChecks", "collectord.daemon.workers.moving"),
        ("twisted.scripts._twistd_unix.UnixAppLogger", "twisted.scripts"),
        ("_abc", "_abc"),
    ],
)
def test_no_private_name_is_told(logger: str, shown: str) -> None:
    (line,) = written("text", event("a") | {"log_namespace": logger})
    assert line.endswith(f" [{shown}#info] a")
    (line,) = written("json", event("a") | {"log_namespace": logger})
    assert json.loads(line)["logger"] == shown


def test_json() -> None:
    (line,) = written("json", event("{x} kept", x=1))
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.500+00:00",
        "level": "info",
        "logger": "a.b",
        "message": "1 kept",
        "x": 1,
    }


def test_events_below_the_level_are_left_out() -> None:
    assert written("text", event("no"), event("yes", LogLevel.warn), level="warn")[0].endswith("#warn] yes")


def test_characters_that_utf8_cannot_hold_are_escaped() -> None:
    assert written("text", event("{x}", x="\ud800"))[0].endswith("\\ud800")


def test_priorities_for_syslog() -> None:
    lines = written("text", event("a"), event("b", LogLevel.error), event("c", LogLevel.critical), for_syslog=True)
    assert [line[:3] for line in lines] == ["<6>", "<3>", "<2>"]


@for_each("form", ["text", "json"])
def test_lost_lines_are_told_of_in_the_form_of_all_lines(form: str) -> None:
    out: list[bytes] = []

    def write(data: bytes) -> int:
        if not out:
            out.append(b"")
            raise OSError(28, "No space left on device")
        out.append(data)
        return len(data)

    observer = LineObserver(write, form, "error")
    observer(event("one", LogLevel.error))
    observer.writer.close()
    line = b"".join(out).decode()
    assert "1 log lines were lost: No space left on device" in line
    if form == "json":
        assert json.loads(line)["lines"] == 1
        assert json.loads(line)["level"] == "error"
