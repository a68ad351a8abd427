"""
The names that annotations are kept by: some stand in for others, and the collector needs some names for itself.
"""

from collections.abc import Container, Iterator, Mapping
from itertools import count

from attrs import field, frozen

from collectord.model import COLLECTOR_NAMES, Annotations

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
    own = [name for name in completed if name in COLLECTOR_NAMES]
    if not own:
        return Named(completed, {})
    renamed = {name: free_name(f"client_{name}", completed) for name in own}
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
