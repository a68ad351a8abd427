"""
Writes the place of a crash as people read it: C{appcore.dll+0x1f2e4c}, where the place itself has more words.
"""

import re

from attrs import frozen

_OWN = re.compile(r"\S+ 0x[0-9a-f]+ (?P<name>.+) (?P<debug_id>[0-9A-Fa-f]{33,}) (?P<offset>0x[0-9a-f]+)", re.DOTALL)
_SYSTEM = re.compile(r"\S+ 0x[0-9a-f]+ (?P<name>.+)", re.DOTALL)
_JAVA = re.compile(r"java (?P<exception>[\w.$]+) (?P<name>[\w.$<>]+)")


@frozen
class ShownPlace:
    """
    A place as it is shown.

    @ivar debug_id: of the module; empty if the place has none.
    @ivar exception: the class that was thrown; empty if the place has none.
    """

    text: str
    debug_id: str = ""
    exception: str = ""


def shown_place(place: str) -> ShownPlace:
    """Return how a place is shown, by the words that it is made of; what is not understood is shown as it is."""
    if found := _OWN.fullmatch(place):
        return ShownPlace(f"{found['name']}+{found['offset']}", found["debug_id"])
    if found := _SYSTEM.fullmatch(place):
        return ShownPlace(found["name"])
    if found := _JAVA.fullmatch(place):
        return ShownPlace(found["name"], exception=found["exception"])
    return ShownPlace(place)
