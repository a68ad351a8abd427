"""
Sends a request a few times, while the server is busy or hangs up.
"""

import hashlib
import time
from collections.abc import Callable
from random import random

from attrs import frozen

from collectord.concurrency.backoff import backoff_delay
from collectord.storage.objects.bucket import Proceed
from collectord.storage.objects.connections import Answer, NoAnswer
from collectord.storage.objects.refusals import RefusedByServer, error_in, is_page
from collectord.storage.objects.watched import Watched

ATTEMPTS = 3
"""How often each request is tried."""
FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 2.0
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_BUSY_CODES = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"})
"""S3 sends these with the status 200 or 400, too."""
_NO_OBJECT = frozenset({"NoSuchKey", "BlobNotFound", ""})
"""How S3 and Azure say that there is no object. Some servers only say so by the status."""


@frozen
class ObjectBody:
    """
    The body of a request, which may have to be sent more than once.

    @ivar sha256: its checksum, in hex, for those who sign it.
    """

    data: bytes | Watched
    size: int
    sha256: str = ""

    def again(self) -> bytes | Watched:
        """Return the data, from the beginning."""
        if not isinstance(self.data, bytes):
            self.data.seek(0)
        return self.data


NO_BODY = ObjectBody(b"", 0, hashlib.sha256().hexdigest())


def is_success(answer: Answer) -> bool:
    """Whether the server says that it has done what it was asked for."""
    return answer.status < 300 and not error_in(answer).code and not is_page(answer)


def _is_found_or_not(answer: Answer) -> bool:
    """
    Whether the server has sent an object, whatever is in it, or says that there is none.

    A page for people says neither: whoever believed it would take a crash for erased that is still there.
    """
    code = error_in(answer).code
    if is_page(answer) and not code and answer.body.lstrip().startswith(b"<"):
        return False
    return answer.status == 200 or (answer.status == 404 and code in _NO_OBJECT)


def persistently(
    method: str,
    send: Callable[[], Answer],
    proceed: Proceed,
    has_changed: Callable[[Answer], bool] = lambda answer: False,
    is_done: Callable[[Answer], bool] = is_success,
) -> Answer:
    """
    Return the answer of success to a request.

    @param send: sends it, each time anew.
    @param proceed: is called before each try.
    @param is_done: whether an answer is one of success.
    @param has_changed: whether after a refusal the next try is another request, which may be accepted.

    @raise NoAnswer: the server can't be reached, or does not answer. It may have done what it was asked for.
    @raise RefusedByServer: it answers with anything but success.
    """
    attempt = 1
    while True:
        proceed()
        try:
            answer = send()
        except NoAnswer:
            if attempt == ATTEMPTS:
                raise
        else:
            if is_done(answer):
                return answer
            if attempt == ATTEMPTS or not (_is_busy(answer) or has_changed(answer)):
                raise RefusedByServer(method, answer)
        time.sleep(backoff_delay(attempt, first=FIRST_PAUSE_S, longest=_LONGEST_PAUSE_S, chance=random()))  # noqa: S311
        attempt += 1


def fetched(send: Callable[[], Answer], has_changed: Callable[[Answer], bool] = lambda answer: False) -> bytes | None:
    """
    Return what is in an object, or None if there is no such object. The request is sent L{persistently}.

    @param send: sends the request for all of the object, each time anew.
    """
    answer = persistently("GET", send, lambda: None, has_changed, _is_found_or_not)
    return answer.body if answer.status == 200 else None


def _is_busy(answer: Answer) -> bool:
    return answer.status in _BUSY or error_in(answer).code in _BUSY_CODES
