"""
URLs as everybody may see them: what is secret in one is replaced by C{***}.

A user and a password are secret, so is every value of a query, and so is what looks like a token in a path.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from collectord.crashid import is_crash_id

HIDDEN = "***"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>\\]+")
_QUERY_VALUE = re.compile(r"([?&][\w.~%-]+=)[^\s&'\"<>\\)]+")
_SEPARATOR = re.compile(r"[-._~]")


def shown_url(url: str) -> str:
    """
    C{url} without its secrets. It is no URL any more, and others may look just like it.

    C{https://hooks.example.com/services/***?key=***}
    """
    scheme, _, rest = url.partition("://")
    rest, hash_sign, _ = rest.partition("#")
    place, question_mark, query = rest.partition("?")
    # A password may have a slash in it: whatever comes before the last @ may be one.
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
    """C{text} with all URLs in it as L{shown_url} has them, and the values of queries hidden."""
    if "://" in text:
        text = _URL.sub(lambda found: shown_url(found[0]), text)
    return _QUERY_VALUE.sub(rf"\1{HIDDEN}", text) if "?" in text or "&" in text else text


@contextmanager
def telling_nothing(wrong: str) -> Iterator[None]:
    """
    Whatever goes wrong with a URL inside: others tell what they could not read, and that may be a password.

    @raise ValueError: it did; C{wrong} is its text.
    """
    try:
        yield
    except Exception:  # libraries raise what they like
        raise ValueError(wrong) from None


def numbered(names: Iterable[str]) -> list[str]:
    """C{names}, each once: of those that are the same the second is called C{name (2)}."""
    found: list[str] = []
    for name in names:
        number, unlike = 1, name
        while unlike in found:
            number += 1
            unlike = f"{name} ({number})"
        found.append(unlike)
    return found


def _is_host(text: str) -> bool:
    try:
        return urlsplit(f"//{text}").port != 0
    except ValueError:  # after the colon there is no port, but the beginning of a password
        return False


def _shown_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN


def _is_token(segment: str) -> bool:
    if is_crash_id(segment.partition(".")[0]):
        return False
    has_both = re.search("[A-Za-z]", segment) is not None and re.search("[0-9]", segment) is not None
    return (len(segment) >= 16 and has_both) or (len(segment) >= 24 and not _SEPARATOR.search(segment))
