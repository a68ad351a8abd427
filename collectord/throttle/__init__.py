"""
Which reports are kept: rules, tried in order, whose first match decides. Pure: today and chance are arguments.
"""

from collectord.throttle.combine import Absent, AllOf, Always, AnyOf, Condition, Not, On, Present
from collectord.throttle.conditions import (
    Contains,
    Equals,
    EqualsIgnoringCase,
    JsonAtMost,
    JsonEquals,
    Matches,
    OlderThanDays,
    OneOf,
    Prefix,
    TextAtMost,
    TextBelow,
    ValueCondition,
    VersionAtLeast,
    VersionBelow,
)
from collectord.throttle.load import BUILTIN, load_rules
from collectord.throttle.rulefile import parse_rules
from collectord.throttle.rules import NO_MATCH, Result, Rule, Sample, Verdict, throttle

__all__ = [
    "BUILTIN",
    "NO_MATCH",
    "Absent",
    "AllOf",
    "Always",
    "AnyOf",
    "Condition",
    "Contains",
    "Equals",
    "EqualsIgnoringCase",
    "JsonAtMost",
    "JsonEquals",
    "Matches",
    "Not",
    "OlderThanDays",
    "On",
    "OneOf",
    "Prefix",
    "Present",
    "Result",
    "Rule",
    "Sample",
    "TextAtMost",
    "TextBelow",
    "ValueCondition",
    "Verdict",
    "VersionAtLeast",
    "VersionBelow",
    "load_rules",
    "parse_rules",
    "throttle",
]
