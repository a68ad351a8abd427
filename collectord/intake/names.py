"""
Gives the files of a report the names under which they are kept.
"""

import re

_LONGEST = 30
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")
_RESERVED = frozenset({"dump_names", "raw_crash", "processed_crash", "dump"})
"""The names that processors of crashes use for something else."""


class DumpNames:
    """Chooses the names of the dumps of one report, so that each is C{[A-Za-z0-9_]{1,30}} and there once."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def choose(self, sent: str) -> str:
        """
        Return the name of the next dump.

        @param sent: the name that the client has for it, in any characters; or empty.
        """
        name = _NOT_IN_NAMES.sub("", sent)[:_LONGEST] or "attachment"
        if name in _RESERVED:
            name += "_file"
        number = 1
        free = name
        while free in self._taken:
            number = self._taken[name] = max(number, self._taken[name]) + 1
            suffix = f"_{number}"
            free = name[: _LONGEST - len(suffix)] + suffix
        self._taken[free] = 1
        return free
