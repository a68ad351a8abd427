"""
What a server of objects, or whatever answers in its place, says when it refuses a request; in words for the operator.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html import unescape

from attrs import frozen

from collectord.net.pages import title_in
from collectord.storage.objects.connections import Answer

_CODE = re.compile(rb"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")
_TAG = re.compile(rb"<[^>]*>")
_SKEWED = {"RequestTimeTooSkewed": 0.0, "AuthenticationFailed": 300.0}
"""
Codes that may mean a wrong clock, and how many seconds off it has to be before the text says so. The one of S3 means
nothing else. The one of Azure also means a wrong key: it allows 15 minutes, and the clock is worth a look from 5 on.
"""
_LOOKED_AT = 4096
"""How many bytes of the body of an answer are searched."""
_EXCERPT = 80


@frozen
class ErrorAnswer:
    """An error as S3 and Azure say it. Both texts are empty where there is none, and the message often is."""

    code: str
    message: str


class RefusedByServer(Exception):
    """
    A server answered, but not with success.

    @param method: the method of the request.
    """

    def __init__(self, method: str, answer: Answer) -> None:
        super().__init__(_in_words(method, answer))
        self.answer = answer
        self.code = error_in(answer).code


def error_in(answer: Answer) -> ErrorAnswer:
    """Find the error in C{answer}. S3 sends some of them with the status 200."""
    if b"<Error>" not in answer.body[:_LOOKED_AT]:
        return ErrorAnswer(answer.headers.get("x-ms-error-code", ""), "")
    return ErrorAnswer(_text(_CODE, answer), _text(_MESSAGE, answer).partition(" RequestId:")[0])


def is_page(answer: Answer) -> bool:
    """Tell whether C{answer} is an HTML page, as proxies and captive portals send it, and not an object store's."""
    return answer.headers.content_type == "text/html" and bool(answer.body)


def _in_words(method: str, answer: Answer) -> str:
    error = error_in(answer)
    if error.code:
        message = error.message or f"({answer.status} {answer.reason}{_by(answer)})"
        return f"{error.code} {message}{_hint(error.code, answer)}"
    location = answer.headers.get("location", "")
    said = f"{method} was answered with {answer.status} {answer.reason}".rstrip()
    if 300 <= answer.status < 400:
        said += f", a redirect to {location}" if location else ", a redirect"
    return said + _who(answer)


def _hint(code: str, answer: Answer) -> str:
    region = answer.headers.get("x-amz-bucket-region", "")
    if code in _SKEWED:
        try:
            behind = (parsedate_to_datetime(answer.headers.get("date")) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return " (set the clock of this host)" if not _SKEWED[code] else ""
        if abs(behind) < _SKEWED[code]:
            return ""
        return f" (the clock of this host is {abs(behind):.0f} s {'behind' if behind > 0 else 'ahead'})"
    return f" (the bucket is in the region {region})" if region and 300 <= answer.status < 500 else ""


def _who(answer: Answer) -> str:
    """Describe who answered where there is no error code: its name, and the beginning of what it says."""
    by = _by(answer)
    begins = answer.body[:_LOOKED_AT]
    text = title_in(begins) or " ".join(_TAG.sub(b" ", begins).decode(errors="replace").split())
    if is_page(answer):
        return f"{by}: no object store, but a page: {_short(text)}" if text else f"{by}: no object store, but a page"
    return f"{by}: {_short(text)}" if text else f"{by}, without a message"


def _by(answer: Answer) -> str:
    server = answer.headers.get("server", "")
    return f" by {_short(server)}" if server else ""


def _text(pattern: re.Pattern[bytes], answer: Answer) -> str:
    found = pattern.search(answer.body[:_LOOKED_AT])
    return " ".join(unescape(found[1].decode(errors="replace")).split()) if found else ""


def _short(text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in unescape(text))
    return shown if len(shown) <= _EXCERPT else f"{shown[:_EXCERPT]}…"
