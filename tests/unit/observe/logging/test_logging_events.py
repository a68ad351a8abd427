import json
from typing import Any

from twisted.logger import LogLevel

from collectord.observe.logging.events import LineObserver
from tests.support.cases import for_each


def written(form: str, *events: dict[str, Any], level: str = "info", for_syslog: bool = False) -> list[str]:
    out: list[bytes] = []

    def write(data: bytes) -> int:
        out.append(data)
        return len(data)

    observer = LineObserver(write, form, level, for_syslog=for_syslog)
    for event in events:
        observer(event)
    observer.writer.close()
    return b"".join(out).decode().splitlines()


def event(text: str, level: LogLevel = LogLevel.info, **fields: Any) -> dict[str, Any]:
    return {"log_time": 1.5, "log_level": level, "log_namespace": "a.b", "log_format": text, **fields}


def test_text() -> None:
    assert written("text", event("{x} kept", x="é"))[0].endswith(" [a.b#info] é kept")


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
