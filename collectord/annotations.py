"""
The names that annotations are kept by: some stand in for others, and the collector needs some names for itself. Also
which of them are kept at all.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import count
from typing import Final

from attrs import Factory, field, frozen

from collectord.model import COLLECTOR_NAMES, Annotations

_REMEMBERED: Final = 1024
_LONGEST: Final = 64
"""Names of which it is remembered whether they are kept, and the most characters of each: clients choose them."""

FORM_CHARSET = "_charset_"
"""The name of the annotation by which a form tells the charset of those of its parts that tell none."""


@frozen
class Named:
    """
    Annotations by the names that they are kept by.

    @ivar renamed: by each name that was sent and is the collector's own, the name that the annotation has instead.
    """

    annotations: Annotations = field(repr=False)
    renamed: Mapping[str, str]


def with_kept_names(annotations: Annotations, aliases: Mapping[str, str]) -> Named:
    """
    Fill in what did not come from its aliases, and rename what has a name of L{COLLECTOR_NAMES}.

    C{version} becomes C{client_version}; if an annotation of that name was sent, too, C{client_version_2}, and so on.

    @param aliases: as for L{with_aliases}.
    """
    completed = with_aliases(annotations, aliases)
    if COLLECTOR_NAMES.isdisjoint(completed):
        return Named(completed, {})
    renamed = {name: free_name(f"client_{name}", completed) for name in completed if name in COLLECTOR_NAMES}
    return Named({renamed.get(name, name): value for name, value in completed.items()}, renamed)


def with_aliases(annotations: Annotations, aliases: Mapping[str, str]) -> Annotations:
    """
    Return C{annotations}, completed by the values of their aliases.

    @param aliases: by the name of one annotation, the name of another that it stands in for if that was not sent. If
        several could stand in for the same one, the first of them counts.
    """
    filled_in: dict[str, str] = {}
    for alias, name in aliases.items():
        if alias in annotations and name not in annotations:
            filled_in.setdefault(name, annotations[alias])
    return {**annotations, **filled_in} if filled_in else annotations


def free_name(name: str, taken: Container[str]) -> str:
    """Return C{name} if it is not taken, else the first free one of C{name_2}, C{name_3} and so on."""
    return next(free_names(name, taken))


def free_names(name: str, taken: Container[str]) -> Iterator[str]:
    """Give those of C{name}, C{name_2}, C{name_3} and so on that are not taken when it is their turn."""
    if name not in taken:
        yield name
    for number in count(2):
        numbered = f"{name}_{number}"
        if numbered not in taken:
            yield numbered


class NamePatterns:
    """
    Patterns of names, in any case: C{*} stands for any characters, as in C{*Email*}.

    @param patterns: without one of them no name matches.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        folded = [pattern.casefold() for pattern in patterns]
        self._names = frozenset(pattern for pattern in folded if "*" not in pattern)
        self._pieces = [pattern.split("*") for pattern in folded if "*" in pattern]

    def __bool__(self) -> bool:
        return bool(self._names or self._pieces)

    def match(self, name: str) -> bool:
        """Tell whether a name matches one of the patterns."""
        folded = name.casefold()
        return folded in self._names or any(_matches(pieces, folded) for pieces in self._pieces)


def _matches(pieces: list[str], name: str) -> bool:
    """Whether a name is these pieces with anything between. It takes no longer for a hostile name than for others."""
    first, *middle, last = pieces
    if not name.startswith(first):
        return False
    at = len(first)
    for piece in middle:
        at = name.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return name.endswith(last) and len(name) - len(last) >= at


@frozen
class KeptNames:
    """
    Which annotations are kept, by their names: those that are wanted, or all, without those that are removed.

    Of an annotation that is kept by another name than it was sent with, either name may match.

    @ivar wanted: an allow-list; without patterns in it all are wanted.
    @ivar removed: these are not kept, even if they are wanted.
    """

    wanted: NamePatterns = field(factory=lambda: NamePatterns(()))
    removed: NamePatterns = field(factory=lambda: NamePatterns(()))
    _is_kept: Callable[[str], bool] = field(
        init=False,
        eq=False,
        repr=False,
        default=Factory(lambda self: lru_cache(_REMEMBERED)(self.keeps), takes_self=True),
    )

    def keeps(self, *names: str) -> bool:
        """Tell whether an annotation is kept, by its name, or by the name that it was sent with and the one it has."""
        if any(map(self.removed.match, names)):
            return False
        return not self.wanted or any(map(self.wanted.match, names))

    def of(self, named: Named) -> Annotations:
        """Return those of C{named} that are kept."""
        if not (self.wanted or self.removed):
            return named.annotations
        sent = {new: name for name, new in named.renamed.items()}
        is_kept = self._is_kept
        return {
            name: value
            for name, value in named.annotations.items()
            if (is_kept(name) if name not in sent and len(name) <= _LONGEST else self.keeps(name, sent.get(name, name)))
        }


ALL_NAMES = KeptNames()
"""All annotations are kept."""
