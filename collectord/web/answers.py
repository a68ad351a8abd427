"""
The status and the text that a client is answered. Some clients use the text as a file name, so keep it as it is.
"""

from collections.abc import Callable

from twisted.web.iweb import IRequest

from collectord.collector import Outcome
from collectord.errors import (
    CollectordError,
    MalformedReport,
    RelayLoop,
    StorageError,
    TooLarge,
    TooSlow,
    UnauthorizedUuid,
)
from collectord.throttle.results import Result
from collectord.web.responses import text

RETRY_AFTER_S = 60
"""After so many seconds a client that was answered 503 should try again."""

_REFUSALS: dict[type[CollectordError], tuple[int, Callable[[BaseException | None], str]]] = {
    MalformedReport: (400, lambda e: f"Discarded=malformed_{e}"),
    UnauthorizedUuid: (401, lambda e: f"Discarded={e}"),
    RelayLoop: (409, lambda e: f"Discarded={e}"),
    TooSlow: (408, lambda e: f"Discarded={e}"),
    TooLarge: (413, lambda e: f"Discarded={e}"),
    StorageError: (503, lambda e: "Discarded=nowhere_to_save"),
}
REFUSALS = tuple(_REFUSALS)
"""Errors that a client is answered with; every other one is a defect."""


def refusal(request: IRequest, error: BaseException | None) -> tuple[int, bytes]:
    """
    Set the status and headers of C{request} for an error that is one of L{REFUSALS}.

    @return: the status, and the content of the answer.
    """
    status, body = next(answer for kind, answer in _REFUSALS.items() if isinstance(error, kind))
    if status == 503:
        request.setHeader(b"retry-after", b"%d" % RETRY_AFTER_S)
    if status == 401:
        request.setHeader(b"www-authenticate", b"Bearer")
    return status, text(request, status, body(error))


def outcome_body(outcome: Outcome, prefix: str) -> str:
    """
    Say what became of a report, in the words that clients know.

    @param prefix: what clients see in front of the crash id.
    """
    if outcome.result is Result.REJECT:
        return f"Discarded=rule_{outcome.rule}"
    if outcome.result is Result.IGNORE:
        return "Unsupported=1\n"
    return f"CrashID={prefix}{outcome.crash_id}\n"
