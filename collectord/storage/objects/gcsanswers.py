"""
What answers in Google's place, and what goes wrong on the way to it: noticed, and put into words for the operator.

Google's client itself follows redirects wherever they lead, with what it sends, and all that it says of a page for
people is where that is no JSON.
"""

import ssl
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Client
from google.cloud.storage.exceptions import InvalidResponse
from requests import ConnectionError as RequestsConnectionError
from requests import RequestException, Response
from requests.exceptions import ConnectTimeout, ReadTimeout

from collectord.storage.objects.answers import Headers
from collectord.storage.objects.connections import Answer, how_it_broke, is_broken, why_unreachable
from collectord.storage.objects.google_private import call_on_answers
from collectord.storage.objects.refusals import RefusedByServer, is_page

_TIMES = "iat and exp"
"""What Google wants checked of a request for a token which seems to be too old, or of the future."""
_NO_BUCKET = "bucket does not exist"


def watched_client(client: Client) -> Client:
    """Let C{client} raise L{RefusedByServer} of answers that can't be Google's, and return it."""
    call_on_answers(client, refuse_others)
    return client


def refuse_others(response: Response, **_: object) -> None:
    """
    Refuse an answer that can't be Google's: a redirect, a page, and one to what was sent that describes no object.

    @raise RefusedByServer: it is one of them.
    """
    is_sent = response.request.method in ("POST", "PUT") and response.ok and "location" not in response.headers
    if (
        response.is_redirect
        or (response.ok and is_page(_answer(response)))
        or (is_sent and response.status_code != 308 and not isinstance(json_in(response), dict))
    ):
        raise _refused(response)


def says_no_object(error: NotFound) -> bool:
    """Tell whether an answer 404 says that there is no such object: not that there is no bucket, and no page does."""
    if error.response is None:
        return False
    return _NO_BUCKET not in error.response.text and "<html" not in error.response.text.lower()


def in_words(error: Exception, connect_timeout: float, read_timeout: float) -> str:
    """Put an error of Google's client, or of a connection to it, into words."""
    match error:
        case RetryError() if error.cause is not None:
            return in_words(error.cause, connect_timeout, read_timeout)
        case GoogleAPICallError() | InvalidResponse() if error.response is not None:
            return _refusal_in_words(error)
        case GoogleAPICallError():
            return f"{error.code} {type(error).__name__} {error.message}"
        case RequestException() if error.request is not None and error.request.url:
            return _failure_in_words(error, str(error.request.url), connect_timeout, read_timeout)
        case GoogleAuthError() if error.args:
            return _no_token_in_words(str(error.args[0]))
        case _:
            return str(error)


def _no_token_in_words(said: str) -> str:
    """Say on one line why there is no token: the library adds the whole answer, as Python writes it."""
    line = " ".join(said.split())
    return f"{line} (is the clock of this host right?)" if _TIMES in line else line


def _refusal_in_words(error: GoogleAPICallError | InvalidResponse) -> str:
    response: Response = error.response
    found = json_in(response)
    about = found.get("error") if isinstance(found, dict) else None
    message = str(about.get("message") or "") if isinstance(about, dict) else ""
    if not message:
        return str(_refused(response))
    kind = type(error).__name__ if isinstance(error, GoogleAPICallError) else response.reason
    return f"{response.status_code} {kind} {message}"


def _failure_in_words(error: RequestException, url: str, connect_timeout: float, read_timeout: float) -> str:
    where, cause = "{0.scheme}://{0.netloc}".format(urlsplit(url)), _innermost(error)
    if isinstance(error, ReadTimeout):
        return how_it_broke(where, TimeoutError(), read_timeout)
    if isinstance(error, ConnectTimeout):
        cause = TimeoutError()
    if is_broken(cause):
        return how_it_broke(where, cause, read_timeout)
    if isinstance(error, RequestsConnectionError) and isinstance(cause, OSError | HTTPException):
        return f"no connection to {where} ({why_unreachable(cause, connect_timeout)})"
    return str(error)


def _innermost(error: BaseException) -> Exception:
    """Return the error of the connection itself, which the libraries have wrapped a few times."""
    found: BaseException = error
    while (inner := found.__cause__ or found.__context__) is not None and not isinstance(found, ssl.SSLError):
        found = inner
    return found if isinstance(found, Exception) else Exception(str(found))


def json_in(response: Response) -> Any:
    """Return what the JSON of an answer says; None: it has none."""
    try:
        return response.json()
    except ValueError:
        return None


def _refused(response: Response) -> RefusedByServer:
    return RefusedByServer(response.request.method or "", _answer(response))


def _answer(response: Response) -> Answer:
    headers = Headers(response.headers)
    is_text = not response.ok or "text/" in response.headers.get("content-type", "")
    return Answer(response.status_code, response.reason or "", headers, response.content if is_text else b"")
