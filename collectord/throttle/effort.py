"""
How much work rules may be, at worst: what clients send must not hold up everybody else.
"""

from collections import Counter
from collections.abc import Iterable

from attrs import frozen

from collectord.model import Annotations
from collectord.throttle.combine import parts_of
from collectord.throttle.conditions import JsonAtMost, JsonEquals, Matches
from collectord.throttle.rules import Rule

_JSON = 25
"""Steps of an expression that take as long as the parsing of one character of JSON."""


@frozen
class Effort:
    """
    What rules may take, over any report.

    @ivar steps: for one character of an annotation, by its name. A step takes some nanoseconds.
    """

    steps: dict[str, int]

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> "Effort":
        """Functions of an operator's own count for nothing: nobody knows."""
        steps: Counter[str] = Counter()
        for rule in rules:
            for key, condition in parts_of(rule.key, rule.condition):
                if isinstance(condition, Matches):
                    steps[key] += condition.pattern.size
                elif isinstance(condition, JsonEquals | JsonAtMost):
                    steps[key] += _JSON
        return cls(dict(steps))

    def over(self, annotations: Annotations) -> int:
        """The steps that the rules take over C{annotations} at most."""
        return sum(steps * len(annotations[key]) for key, steps in self.steps.items() if key in annotations)
