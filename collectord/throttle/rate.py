"""
The rate of a rule: how many reports of a kind it lets through, by how many have come.
"""

from collections.abc import Sequence
from math import isfinite

from attrs import field, frozen

from collectord.errors import ConfigError
from collectord.throttle.results import Result

TRAITS = ("fingerprint", "place", "address", "key")
"""What reports can be counted by besides their annotations."""

_LONGEST_HOURS = 24 * 366


def _names(per: object) -> object:
    if isinstance(per, str):
        return (per,) if per in TRAITS else per
    return tuple(per) if isinstance(per, Sequence) else per


def _whole(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{what} must be a whole number, 1 or more, not {value!r}")


@frozen(kw_only=True)
class RateSample:
    """
    A rate sample decides by how many reports have come: C{below} for the first of each group, and C{above} for most of
    the others.

    Reports are in the same group if all that C{per} names is the same in them. Those of a group are counted for some
    hours from the first on; then counting begins anew.

    C{RateSample(per="fingerprint", first=10, every=1000, hours=1, below=Result.CONTINUE, above=Result.REJECT)}

    @ivar per: one of L{TRAITS}, or a list of these and of names of annotations.
    @ivar first: how many reports of a group are C{below}.
    @ivar every: after these, one of so many is C{below}; None: none is.
    @ivar hours: for how long they are counted.
    """

    per: tuple[str, ...] = field(converter=_names)
    first: int = field()
    every: int | None = field(default=None)
    hours: float = field()
    below: Result = field()
    above: Result = field()

    @per.validator
    def _check_per(self, _attribute: object, per: object) -> None:
        if not isinstance(per, tuple) or not per or not all(isinstance(name, str) and name for name in per):
            traits = ", ".join(f'"{trait}"' for trait in TRAITS)
            raise ConfigError(
                f"per must be one of {traits}, or a list of these and of names of annotations, not {per!r}"
            )
        if len(set(per)) < len(per):
            raise ConfigError(f"per has a name twice: {', '.join(per)}")

    @first.validator
    def _check_first(self, _attribute: object, first: object) -> None:
        _whole("first", first)

    @every.validator
    def _check_every(self, _attribute: object, every: object) -> None:
        if every is not None:
            _whole("every", every)

    @hours.validator
    def _check_hours(self, _attribute: object, hours: object) -> None:
        is_number = isinstance(hours, int | float) and not isinstance(hours, bool) and isfinite(hours)
        if not is_number or not 0 < float(hours) <= _LONGEST_HOURS:  # type: ignore[arg-type]
            raise ConfigError(f"hours must be a number above 0, and {_LONGEST_HOURS} at most, not {hours!r}")

    @below.validator
    @above.validator
    def _check_result(self, attribute: object, result: object) -> None:
        if not isinstance(result, Result):
            raise ConfigError(f"{getattr(attribute, 'name', '')} must be a Result, not {result!r}")
