"""
Log lines: as text for people, as JSON for machines.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, formatEvent, formatTime
from zope.interface import implementer

from collectord.urls import without_secrets


def as_text(event: LogEvent) -> str:
    """C{2026-11-24T10:46:39+0000 [collectord.collector#info] …}, and a traceback where there is one."""
    if "log_failure" in event:
        return eventAsText(event)
    return (
        f"{_second(int(event['log_time']))} [{event.get('log_namespace', '-')}#{_level(event).name}] {_message(event)}"
    )


@lru_cache(maxsize=2)
def _second(time: int) -> str:
    return formatTime(time)


def _message(event: LogEvent) -> str:
    try:
        return str(event["log_format"].format_map(event))  # Twisted's own formatter costs as much as parsing a report
    except Exception:
        return formatEvent(event)


def as_json(event: LogEvent) -> str:
    """One JSON object: C{time}, C{level}, C{logger}, C{message}, and the fields of the event."""
    line = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": _level(event).name,
        "logger": event.get("log_namespace", "-"),
        "message": _message(event),
    }
    for key, value in event.items():
        if isinstance(value, str | int | float | None) and not key.startswith(("log_", "isError", "message")):
            line.setdefault(key, value)
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line)


_NOISE = frozenset({"twisted.web.client._HTTP11ClientFactory"})
"""Tells each connection that begins and ends."""

FORMATS = {"text": as_text, "json": as_json}


@implementer(ILogObserver)
class LineObserver:
    """
    @param form: one of L{FORMATS}.
    @param level: the lowest that is told.
    """

    def __init__(self, out: TextIO, form: str, level: str) -> None:
        self._out = out
        self.change(form, level)

    def change(self, form: str, level: str) -> None:
        """Tell it so from now on."""
        self._as_line = FORMATS[form]
        self._level = LogLevel.levelWithName(level)

    def __call__(self, event: LogEvent) -> None:
        if _level(event) >= self._level and event.get("log_namespace") not in _NOISE:
            with suppress(BlockingIOError):  # nobody reads them, and they must not hold up a worker
                self._out.write(without_secrets(self._as_line(event)) + "\n")
                self._out.flush()


def _level(event: LogEvent) -> LogLevel:
    level: LogLevel = event.get("log_level") or LogLevel.info
    return level
