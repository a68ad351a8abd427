"""
Writes the values of an overview or a crash as JSON.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import asdict, has


def as_json(value: object) -> bytes:
    """Write C{value} as one line of ASCII, so that no text of a crash can end the line or the event that it is in."""
    return json.dumps(value, default=_plain, separators=(",", ":")).encode("ascii")


def _plain(value: Any) -> object:
    """Return C{value} as something that JSON knows. The encoder calls this again for the values within it."""
    if has(type(value)):
        return asdict(value, recurse=False)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
