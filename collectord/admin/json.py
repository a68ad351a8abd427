"""
The values of an overview or a crash, as JSON.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import asdict, has


def as_json(value: object) -> bytes:
    """C{value} in one line of ASCII, so that nothing in a crash can break it."""
    return json.dumps(value, default=_plain, separators=(",", ":")).encode("ascii")


def _plain(value: Any) -> object:
    """One level of it; the encoder asks again for what is below."""
    if has(type(value)):
        return asdict(value, recurse=False)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
