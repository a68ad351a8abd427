"""
Checks URLs in the settings, and hides the secrets in them before they are shown.

The user, the password, every value of the query, and whatever looks like a token in the path count as secret. Each of
them is replaced by C{***}.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from collectord.crashid import is_crash_id

HIDDEN = "***"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>\\]+")
_HOST_AND_COLON = re.compile(r"[^/?#@]*:[0-9]+:")
"""What follows the scheme if a message goes on after the port, as in C{http://127.0.0.1:9000: Connection refused}."""
_QUERY_VALUE = re.compile(r"([?&][\w.~%-]+=)[^\s&'\"<>\\)]+")
_SEPARATOR = re.compile(r"[-._~]")


def http_parts(url: str) -> SplitResult:
    """
    Split an http or https URL into its parts.

    @raise ValueError: it has another scheme, no host, or no valid port. The text may contain all of the URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"no URL of a web server: {url!r}")
    return parts


def bare_http_parts(url: str) -> SplitResult:
    """
    Split an http or https URL that has no user, no query and no fragment, because errors would show them.

    @raise ValueError: it has one, or is none. The text may contain all of the URL.
    """
    parts = http_parts(url)
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"it has a user, a query or a fragment: {url!r}")
    return parts


@lru_cache(maxsize=64)
def redacted_url(url: str) -> str:
    """
    Return C{url} with its secrets replaced, such as C{https://hooks.example.com/services/***?key=***}.

    The result can't be used as a URL, and different URLs may have the same result.
    """
    scheme, _, rest = url.partition("://")
    rest, hash_sign, _ = rest.partition("#")
    place, question_mark, query = rest.partition("?")
    # A password may have a slash in it, so all that comes before the last @ may be a part of one.
    _, at, place = place.rpartition("@")
    host, slash, path = place.partition("/")
    if not at and not _is_host(host):
        return f"{scheme}://{HIDDEN}"
    shown = f"{scheme}://{HIDDEN + at if at else ''}{host}{slash}"
    shown += "/".join(HIDDEN if _is_token(segment) else segment for segment in path.split("/"))
    if question_mark:
        shown += f"?{'&'.join(_shown_parameter(parameter) for parameter in query.split('&'))}"
    return f"{shown}#{HIDDEN}" if hash_sign else shown


def without_secrets(text: str) -> str:
    """Return C{text} with the secrets in all of its URLs replaced, and the values of queries without a URL as well."""
    if "://" in text:
        text = _URL.sub(_redacted_in_text, text)
    return _QUERY_VALUE.sub(rf"\1{HIDDEN}", text) if "?" in text or "&" in text else text


@contextmanager
def without_quoting_input(message: str) -> Iterator[None]:
    """
    Replace any exception that is raised inside by a ValueError with the text C{message}.

    To be used around everything that parses a URL of the settings: exceptions of other libraries quote what they could
    not parse, which may be a password.

    @raise ValueError: an exception was raised inside.
    """
    try:
        yield
    except Exception:  # libraries raise what they like
        raise ValueError(message) from None


def numbered(names: Iterable[str]) -> list[str]:
    """Return C{names} with a number added to those that were there before: the second C{name} becomes C{name (2)}."""
    found: list[str] = []
    for name in names:
        number, unlike = 1, name
        while unlike in found:
            number += 1
            unlike = f"{name} ({number})"
        found.append(unlike)
    return found


def _redacted_in_text(found: re.Match[str]) -> str:
    url, follows = found[0], found.string[found.end() : found.end() + 1]
    if follows in ("", " ") and _HOST_AND_COLON.fullmatch(url.partition("://")[2]):
        return f"{redacted_url(url.removesuffix(':'))}:"
    return redacted_url(url)


def _is_host(text: str) -> bool:
    try:
        return urlsplit(f"//{text}").port != 0
    except ValueError:  # the text after the colon is no port, so it may be the beginning of a password
        return False


def _shown_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN


def _is_token(segment: str) -> bool:
    if is_crash_id(segment.partition(".")[0]):
        return False
    has_both = re.search("[A-Za-z]", segment) is not None and re.search("[0-9]", segment) is not None
    return (len(segment) >= 16 and has_both) or (len(segment) >= 24 and not _SEPARATOR.search(segment))
