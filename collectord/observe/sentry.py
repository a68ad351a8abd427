"""
Reports unhandled errors to Sentry: the kind of error and where in the code it came up, and no crash data.

The text of an exception, local variables and lines of source may hold crash data or an address. So the event is made
here, of parts that can't, instead of being made by the SDK and scrubbed afterwards. The SDK queues events and sends
them on a thread of its own; when Sentry is too slow, the SDK drops events.
"""

import errno
import re
import socket
from collections.abc import Iterator
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from collectord.errors import ConfigError
from collectord.settings.schema import Sentry

if TYPE_CHECKING:
    from sentry_sdk import Client

_WINDOW_S = 60.0
_MOST = 20
"""Errors that are reported within a window. An error that comes with every crash must not slow down each of them."""
_FRAMES = 50
_CAUSES = 10
_LAST_S = 2.0


def sentry_observer(settings: Sentry, version: str) -> "SentryObserver | None":
    """
    Make the log observer that the section C{[sentry]} asks for.

    @return: None if no DSN is set.
    @raise ConfigError: the DSN can't be right, or the extra C{sentry} is not installed.
    """
    if not settings.dsn:
        return None
    try:
        from sentry_sdk import Client
        from sentry_sdk.utils import Dsn
    except ModuleNotFoundError as e:
        raise ConfigError(f"[sentry] dsn: the module {e.name} is missing: pip install 'collectord[sentry]'") from e
    try:
        Dsn(settings.dsn)
    except ValueError as e:
        why = re.sub("'.*'", "…", str(e))  # The text may quote parts of the DSN, which is secret.
        raise ConfigError(f"[sentry] dsn = …: {why}; it looks like https://<key>@<host>/<number>") from None
    client = Client(
        dsn=settings.dsn,
        release=f"collectord@{version}",
        environment=settings.environment or None,
        server_name=socket.gethostname().partition(".")[0],
        # The SDK sends what it is given, and must collect nothing by itself.
        default_integrations=False,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        spotlight=False,
    )
    return SentryObserver(client)


@implementer(ILogObserver)
class SentryObserver:
    """
    Sends the errors among the log events to Sentry, a limited number in each minute.

    It does not block, and may be called on any thread.

    @param client: a client without scope or integrations, which adds only version, environment and host to an event.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._window_began = 0.0
        self._in_window = 0

    def __call__(self, event: LogEvent) -> None:
        """Send C{event} if it has a failure, or is critical and our own."""
        is_error = "log_failure" in event or (event.get("log_level") is LogLevel.critical and _is_ours(event))
        if is_error and self._is_within_limit(event["log_time"]):
            self._client.capture_event(_sentry_event(event))

    def _is_within_limit(self, now: float) -> bool:
        if not 0 <= now - self._window_began < _WINDOW_S:
            self._window_began, self._in_window = now, 0
        self._in_window += 1
        return self._in_window <= _MOST

    def close(self) -> None:
        """Send what is queued. This blocks for up to two seconds, so call it once the reactor has stopped."""
        self._client.close(timeout=_LAST_S)


def _is_ours(event: LogEvent) -> bool:
    """Whether this event is from our code, whose message formats never hold values. Those of libraries may."""
    return str(event.get("log_namespace")).startswith("collectord.")


def _sentry_event(event: LogEvent) -> Any:
    made: dict[str, Any] = {"level": "error", "logger": event.get("log_namespace", "-")}
    if _is_ours(event):
        made["logentry"] = {"message": event.get("log_format", "")}
    failure = event.get("log_failure")
    if failure is not None:
        made["exception"] = {"values": list(_chain(failure.value, failure.getTracebackObject()))[::-1]}
    return made


def _chain(error: BaseException | None, traceback: TracebackType | None) -> Iterator[dict[str, Any]]:
    """Yield the exception, then its cause, then the cause of that, and so on."""
    for _ in range(_CAUSES):
        if error is None:
            return
        yield {
            "type": type(error).__name__,
            "module": type(error).__module__,
            "value": errno.errorcode.get(error.errno or 0, "") if isinstance(error, OSError) else "",
            "stacktrace": {"frames": list(_frames(traceback))[-_FRAMES:]},
        }
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        traceback = None if error is None else error.__traceback__


def _frames(traceback: TracebackType | None) -> Iterator[dict[str, Any]]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        path = PurePath(code.co_filename).parts[-3:]
        yield {
            "module": traceback.tb_frame.f_globals.get(
                "__name__", ""
            ),  # No globals are left if the failure was cleaned.
            "function": code.co_name,
            "filename": "/".join(path),
            "lineno": traceback.tb_lineno,
            "in_app": "collectord" in path,
        }
        traceback = traceback.tb_next
