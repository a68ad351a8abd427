"""
Pages for people, as a proxy, a login or the portal of a network sends them in the place of a server for programs.
"""

import re
from html import unescape

_PAGE = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>([^<]*)</title>", re.IGNORECASE)
_LONGEST = 80


def page_in_words(body: bytes) -> str:
    """
    Return C{a page}, with its title where it has one; empty: it is none.

    That the type of an answer is HTML proves nothing, since frameworks say so of any text.

    @param body: the beginning of an answer.
    """
    if _PAGE.match(body) is None:
        return ""
    shown = "".join(c if c.isprintable() else "?" for c in title_in(body))[:_LONGEST]
    return f"a page ({shown})" if shown else "a page"


def title_in(body: bytes) -> str:
    """Return the title of a page, on one line; empty: C{body} has none. It may hold any characters."""
    found = _TITLE.search(body)
    return " ".join(unescape(found[1].decode(errors="replace")).split()) if found else ""
