"""
An upper bound of the work that rules can be, so that a report that takes long is judged on a thread and does not hold
up the other clients.
"""

from collections import Counter
from collections.abc import Iterable

from attrs import frozen

from collectord.model import Annotations
from collectord.throttle.combine import parts_of
from collectord.throttle.conditions import JsonAtMost, JsonEquals, Matches
from collectord.throttle.rules import Rule

_JSON = 25
"""The steps of a regular expression that take as long as parsing one character of JSON."""


@frozen
class Effort:
    """
    An effort says how many steps some rules take at most for each character of an annotation.

    @ivar steps: by the name of the annotation. A step takes some nanoseconds.
    """

    steps: dict[str, int]

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> "Effort":
        """Add up the effort of C{rules}. Python functions count as nothing, since their effort can't be known."""
        steps: Counter[str] = Counter()
        for rule in rules:
            for name in rule.rate.per if rule.rate is not None else ():
                steps[name] += 1
            for key, condition in parts_of(rule.key, rule.condition):
                if isinstance(condition, Matches):
                    steps[key] += condition.pattern.size
                elif isinstance(condition, JsonEquals | JsonAtMost):
                    steps[key] += _JSON
        return cls(dict(steps))

    def over(self, annotations: Annotations) -> int:
        """Return how many steps the rules take for C{annotations} at most."""
        return sum(steps * len(annotations[key]) for key, steps in self.steps.items() if key in annotations)
