"""
The libraries that come with a system or a compiler: what is in them tells little about the bug of an application.
"""

from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from typing import Final

_LINES: Final = (files("collectord.fingerprints") / "runtimes.txt").read_text("utf-8").split("\n")
PATTERNS: Final = frozenset(line for line in map(str.strip, _LINES) if line and not line.startswith("#"))
"""Names of files in lower case. One that ends with C{*} stands for all names that begin so."""

_NAMES: Final = frozenset(pattern for pattern in PATTERNS if not pattern.endswith("*"))
_KEY: Final = 3
_BEGINNINGS: Final[dict[str, tuple[str, ...]]] = {
    key: tuple(beginnings)
    for key, beginnings in groupby(
        sorted(pattern.removesuffix("*") for pattern in PATTERNS - _NAMES), lambda beginning: beginning[:_KEY]
    )
}
"""What names begin with, by their first characters: so few have to be compared."""


def is_runtime(name: str) -> bool:
    """
    Tell whether a module is such a library.

    @param name: of its file, in lower case.
    """
    return name in _NAMES or name.startswith(_BEGINNINGS.get(name[:_KEY], ()))


@lru_cache(maxsize=1024)
def lower_if_own(name: str) -> str:
    """Return the name of a module in lower case; empty if it is such a library."""
    lower = name.lower()
    return "" if is_runtime(lower) else lower
