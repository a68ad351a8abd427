"""
What rules with a rate count reports by: the group that a report belongs to.
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TypeAlias

from attrs import frozen

from collectord.model import Annotations, CrashFacts
from collectord.throttle.rate import RateSample

KEYS = ("sentry_key", "api_key", "apikey", "key", "token")
"""The annotations in which SDKs send the key of a project, mostly by the query of the URL. The first one counts."""

_LONGEST = 63
"""A longer group is known by a digest. That has 64 characters, so it is taken for no other group."""


@frozen(kw_only=True)
class Traits:
    """
    Traits are what is known of a report besides its annotations. None: it is not known.

    @ivar fingerprint: of its crash, as C{place}.
    @ivar address: of the client.
    @ivar key: of the project, as the SDK sends it.
    """

    fingerprint: str | None = None
    place: str | None = None
    address: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, annotations: Annotations, facts: CrashFacts | None, address: str | None) -> "Traits":
        """Return the traits of a report that has these annotations and facts, and came from this address."""
        return cls(
            fingerprint=(facts.fingerprint or None) if facts is not None else None,
            place=_short(facts.place) or None if facts is not None else None,
            address=address,
            key=_short(next(filter(None, map(annotations.get, KEYS)), "")) or None,
        )


Grouping: TypeAlias = Callable[[Traits, Annotations], str | None]
"""Returns a text that is the same for all reports of one group; None if a report has not what is counted by."""

_BY_TRAIT: Mapping[str, Grouping] = {
    "fingerprint": lambda traits, annotations: traits.fingerprint,
    "place": lambda traits, annotations: traits.place,
    "address": lambda traits, annotations: traits.address,
    "key": lambda traits, annotations: traits.key,
}


def grouping_of(rate: RateSample) -> Grouping:
    """Return the function that tells the groups of C{rate} apart."""
    parts = [_BY_TRAIT.get(name) or _by_annotation(name) for name in rate.per]
    if len(parts) == 1:
        return parts[0]

    def group(traits: Traits, annotations: Annotations) -> str | None:
        values = [part(traits, annotations) for part in parts]
        # No value has a NUL in it, so different values never give the same text.
        return None if None in values else _short("\0".join(map(str, values)))

    return group


def value_of(name: str, traits: Traits, annotations: Annotations) -> str | None:
    """Return what C{per} means by C{name}: one of the traits, or an annotation."""
    return _BY_TRAIT[name](traits, annotations) if name in _BY_TRAIT else annotations.get(name)


def _by_annotation(name: str) -> Grouping:
    def group(traits: Traits, annotations: Annotations) -> str | None:
        value = annotations.get(name)
        return None if value is None else _short(value)

    return group


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
