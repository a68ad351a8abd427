"""
Unhandled errors, told to Sentry: of what kind and where in the code, and nothing of what was worked on.

An exception's text, the local variables and the lines of source may hold crash data or an address. So an event is made
here of what can't, instead of being made by the SDK and scrubbed afterwards. The SDK queues it and sends it on a thread
of its own; when Sentry is too slow, it drops.
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
"""Errors that are told within a window: an error of every crash costs each crash little."""
_FRAMES = 50
_CAUSES = 10
_LAST_S = 2.0


def sentry_observer(settings: Sentry, version: str) -> "SentryObserver | None":
    """
    What the settings ask for; None: nothing.

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
        why = re.sub("'.*'", "…", str(e))  # parts of it may be secret
        raise ConfigError(f"[sentry] dsn = …: {why}; it looks like https://<key>@<host>/<number>") from None
    client = Client(
        dsn=settings.dsn,
        release=f"collectord@{version}",
        environment=settings.environment or None,
        server_name=socket.gethostname().partition(".")[0],
        # It is told what to send, and looks at nothing by itself.
        default_integrations=False,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        spotlight=False,
    )
    return SentryObserver(client)


@implementer(ILogObserver)
class SentryObserver:
    """
    @param client: it has no scope and no integrations: it adds nothing to an event but version, environment and host.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._window_began = 0.0
        self._in_window = 0

    def __call__(self, event: LogEvent) -> None:
        is_error = "log_failure" in event or (event.get("log_level") is LogLevel.critical and _is_ours(event))
        if is_error and self._may(event["log_time"]):
            self._client.capture_event(_told(event))

    def _may(self, now: float) -> bool:
        if not 0 <= now - self._window_began < _WINDOW_S:
            self._window_began, self._in_window = now, 0
        self._in_window += 1
        return self._in_window <= _MOST

    def close(self) -> None:
        """Send what is queued, for two seconds at most: this blocks, so the reactor should have stopped."""
        self._client.close(timeout=_LAST_S)


def _is_ours(event: LogEvent) -> bool:
    """Whether the format of its message is sure to have no values in it: those of others may."""
    return str(event.get("log_namespace")).startswith("collectord.")


def _told(event: LogEvent) -> Any:
    told: dict[str, Any] = {"level": "error", "logger": event.get("log_namespace", "-")}
    if _is_ours(event):
        told["logentry"] = {"message": event.get("log_format", "")}
    failure = event.get("log_failure")
    if failure is not None:
        told["exception"] = {"values": list(_chain(failure.value, failure.getTracebackObject()))[::-1]}
    return told


def _chain(error: BaseException | None, traceback: TracebackType | None) -> Iterator[dict[str, Any]]:
    """The exception, and then what it came from."""
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
            "module": traceback.tb_frame.f_globals.get("__name__", ""),  # a failure that was cleaned does not know it
            "function": code.co_name,
            "filename": "/".join(path),
            "lineno": traceback.tb_lineno,
            "in_app": "collectord" in path,
        }
        traceback = traceback.tb_next
