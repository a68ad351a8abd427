"""
Throttle rules decide which reports are kept: they are tried in order, and the first that matches decides.

The functions here are pure: the day and the random numbers that rules depend on are passed in. What this module exports
is what operators import who write their rules in Python.
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
from collectord.throttle.rate import RateSample
from collectord.throttle.results import Result
from collectord.throttle.rulefile import parse_rules
from collectord.throttle.rules import NO_MATCH, Rule, Sample, Verdict, throttle

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
    "RateSample",
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
