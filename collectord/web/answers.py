"""
The status and the text that a client is answered. Some clients use the text as a file name, so keep it as it is.
"""

import re
from typing import Final

from attrs import frozen
from twisted.web.iweb import IRequest

from collectord.collector import Outcome
from collectord.dialects.answers import Answers, filled_in
from collectord.dialects.row import Dialect
from collectord.errors import (
    CollectordError,
    MalformedReport,
    NoDump,
    RelayLoop,
    StorageError,
    TooLarge,
    TooSlow,
    UnauthorizedUuid,
    UnknownKey,
    UnsupportedReport,
)
from collectord.throttle.results import Result
from collectord.web.responses import text

RETRY_AFTER_S = 60
"""After so many seconds a client that was answered 503 should try again."""

_VERSION: Final = re.compile(r"[0-9A-Za-z.+_-]{1,64}")
"""A version that a client can be told. It came from a client, and must not begin another line of the answer."""

_STATUSES: dict[type[CollectordError], tuple[int, str]] = {
    MalformedReport: (400, "malformed_{reason}"),
    UnsupportedReport: (415, "unsupported_{reason}"),
    NoDump: (400, "malformed_{reason}"),
    UnauthorizedUuid: (401, "{reason}"),
    UnknownKey: (401, "{reason}"),
    RelayLoop: (409, "{reason}"),
    TooSlow: (408, "{reason}"),
    TooLarge: (413, "{reason}"),
    StorageError: (503, "nowhere_to_save"),
}
REFUSALS = tuple(_STATUSES)
"""Errors that a client is answered with; every other one is a defect."""


def refusal(request: IRequest, dialect: Dialect, error: CollectordError) -> tuple[int, str, bytes]:
    """
    Set the status and headers of C{request} for an error that is one of L{REFUSALS}.

    @return: the status, the reason in a word, and the content of the answer.
    """
    answers = dialect.answer
    if isinstance(error, NoDump) and dialect.no_dump == "answer":
        return 200, str(error), text(request, 200, answers.no_dump, answers.content_type)
    status, reason = next(known for kind, known in _STATUSES.items() if isinstance(error, kind))
    if status == 503:
        request.setHeader(b"retry-after", b"%d" % RETRY_AFTER_S)
    if isinstance(error, UnauthorizedUuid):
        request.setHeader(b"www-authenticate", b"Bearer")
    reason = filled_in(reason, {"reason": str(error)})
    return status, reason, text(request, status, filled_in(answers.refused, {"reason": reason}), answers.content_type)


@frozen
class Shown:
    """
    What clients are shown of a crash that is kept.

    @ivar prefix: comes in front of its id.
    @ivar view_url: of its page, with C{{crash_id}} in it; empty if there is none.
    """

    prefix: str
    view_url: str = ""


def told_outcome(request: IRequest, answers: Answers, outcome: Outcome, shown: Shown) -> bytes:
    """Set the status and headers of C{request} for what became of a report, and return the content of the answer."""
    if outcome.result is Result.STOP and answers.stop_s:
        request.setHeader(b"x-sentry-rate-limits", b"%d::project" % answers.stop_s)
        request.setHeader(b"retry-after", b"%d" % answers.stop_s)
        request.setHeader(b"access-control-expose-headers", b"X-Sentry-Rate-Limits, Retry-After")  # to a page
    return text(request, 200, _outcome_body(outcome, answers, shown), answers.content_type)


def _outcome_body(outcome: Outcome, answers: Answers, shown: Shown) -> str:
    """What became of a report, in the words that its clients know."""
    if outcome.result is Result.STOP and answers.stopped and _VERSION.fullmatch(outcome.version):
        return filled_in(answers.stopped, {"rule": outcome.rule, "version": outcome.version})
    if outcome.result in (Result.REJECT, Result.STOP):
        return filled_in(answers.rejected, {"rule": outcome.rule})
    if outcome.result is Result.IGNORE:
        return answers.ignored
    crash_id = outcome.crash_id or ""
    view_url = filled_in(shown.view_url, {"crash_id": crash_id})
    values = {
        "prefix": shown.prefix,
        "crash_id": crash_id,
        "hex": crash_id.replace("-", ""),
        "view_url": view_url,
        "view_line": f"ViewURL={view_url}\n" if view_url else "",
    }
    return filled_in(answers.kept, values)
