"""
What may have been meant by a key or a name that is unknown.
"""

from collections.abc import Collection
from difflib import get_close_matches

_FEW = 10
"""So many names can be told all: more would hide the one that was meant."""


def known_in_words(unknown: str, known: Collection[str]) -> str:
    """
    Say in the words of an error which name may have been meant, and which are known.

    @param known: they are listed if they are few, or none of them is like C{unknown}.
    """
    near = get_close_matches(unknown.lower(), known, n=1)
    meant = [f"did you mean {near[0]}?"] if near else []
    listed = [] if near and len(known) > _FEW else [f"known here: {', '.join(known)}"]
    return " ".join([*meant, *listed])
