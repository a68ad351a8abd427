"""
What the headers of a request say of its sender: its token, and what another collector has noted.
"""

import json
from collections.abc import Sequence


def notes_in(header: bytes | None) -> Sequence[str]:
    """Return the notes in the header of a relay; none if they can't be read."""
    try:
        notes = json.loads(header or b"[]")
    except (ValueError, RecursionError):
        return ()
    texts = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return [text.encode(errors="replace").decode() for text in texts]  # a lone surrogate is no character


def bearer_token_in(authorization: bytes | None) -> str | None:
    """Return the token in C{Authorization}; empty if it has none; None if there is no such header."""
    if authorization is None:
        return None
    scheme, _, token = authorization.decode(errors="replace").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
