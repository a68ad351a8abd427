"""
Turns log events into lines: text for people, or JSON for programs.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from time import time

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, formatEvent, formatTime
from zope.interface import implementer

from collectord.observe.logging.writer import LogWriter
from collectord.settings.urls import without_secrets


def as_text(event: LogEvent, process: str = "") -> str:
    """
    Write an event as C{2026-11-24T10:46:39+0000 [collectord.collector#info] …}, with its traceback if it has one.

    @param process: the name of the process, which comes before the message; empty: there is none.
    """
    if "log_failure" in event:
        message = eventAsText(event, includeTimestamp=False, includeSystem=False).rstrip()
    else:
        message = _message(event)
    name = _plain_name(event.get("log_namespace", "-"))
    return (
        f"{_second(int(event['log_time']))} [{name}#{_level(event).name}] {process}{': ' if process else ''}{message}"
    )


@lru_cache(maxsize=2)
def _second(at: int) -> str:
    return formatTime(at)


def _message(event: LogEvent) -> str:
    try:
        # Twisted's own formatter takes as long as parsing a report, so it is used only where this fails.
        return str(event["log_format"].format_map(event))
    except Exception:
        return formatEvent(event)


def as_json(event: LogEvent, process: str = "") -> str:
    """
    Write an event as a JSON object on one line: C{time}, C{level}, C{logger}, C{message}, and its fields.

    @param process: the name of the process, for the field C{process}; empty: there is none.
    """
    line = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": _level(event).name,
        "logger": _plain_name(event.get("log_namespace", "-")),
        "message": _message(event),
    }
    if process:
        line["process"] = process
    for key, value in event.items():
        if isinstance(value, str | int | float | None) and not key.startswith(("log_", "isError", "message")):
            line.setdefault(key, value)
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line)


@lru_cache(maxsize=1024)
def _plain_name(logger: str) -> str:
    """Return the name of a logger without what is private there: what comes after a package or module says nothing."""
    if logger == _LEGACY:
        return "twisted"
    return _PRIVATE.sub("", logger) or logger


_LEGACY = "log_legacy"
"""Events of the older log of Twisted come with this name."""
_PRIVATE = re.compile(r"\._.*")
_FACTORIES = frozenset({"Starting factory {factory!r}", "Stopping factory {factory!r}"})
_PORTS = re.compile(r"\S+ starting on .+|\(.*\bPort .+ Closed\)")


def _is_noise(event: LogEvent) -> bool:
    """Tell whether it is one of Twisted's lines, in names of its own, for the start and end of a connection or port."""
    if event.get("log_namespace") == _LEGACY:
        return _PORTS.fullmatch(str(event.get("log_text", ""))) is not None
    return event.get("log_format") in _FACTORIES


FORMATS = {"text": as_text, "json": as_json}


_SYSLOG = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 2}


@implementer(ILogObserver)
class LineObserver:
    """
    Makes a line of each log event, and hands it to a thread that writes it. It never blocks; any thread may call it.

    @param write: writes bytes, as C{os.write} does; see L{LogWriter}.
    @param form: one of L{FORMATS}.
    @param level: the lowest level that is logged.
    @param process: the name of this process, which each line has; empty: there is only one.
    @param for_syslog: whether each line begins with its priority, as C{<6>}.
    @ivar writer: takes the lines, and owns the thread.
    """

    def __init__(
        self, write: Callable[[bytes], int], form: str, level: str, *, process: str = "", for_syslog: bool = False
    ) -> None:
        self.writer = LogWriter(write, self._missing)
        self._process = process
        self._for_syslog = for_syslog
        self.change(form, level)

    def change(self, form: str, level: str) -> None:
        """Use another form and another lowest level from now on."""
        self._as_line = FORMATS[form]
        self._level = LogLevel.levelWithName(level)

    def __call__(self, event: LogEvent) -> None:
        """Log C{event}, if its level is high enough."""
        if _level(event) >= self._level and not _is_noise(event):
            self.writer(self._encoded(event))

    def _encoded(self, event: LogEvent) -> bytes:
        mark = f"<{_SYSLOG[_level(event)]}>" if self._for_syslog else ""
        return f"{mark}{without_secrets(self._as_line(event, self._process))}\n".encode(errors="backslashreplace")

    def _missing(self, lines: int, why: str) -> bytes:
        event = {
            "log_time": time(),
            "log_level": LogLevel.error,
            "log_namespace": __name__,
            "log_format": "{lines} log lines were lost: {why}",
            "lines": lines,
            "why": why,
        }
        return self._encoded(event)


def _level(event: LogEvent) -> LogLevel:
    level: LogLevel = event.get("log_level") or LogLevel.info
    return level
