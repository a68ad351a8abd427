"""
Patterns of names: in any case, with stars.
"""

import pytest

from collectord.annotations import NamePatterns
from tests.support.cases import for_each


@for_each(
    ("pattern", "matching", "others"),
    [
        pytest.param("Email", ["Email", "email", "EMAIL"], ["Emai", "Email2", "xEmail", ""], id="a name"),
        pytest.param("*email*", ["ContactEmail", "email", "E-Mail-Email-2"], ["e-mail"], id="inside"),
        pytest.param("Moz*", ["MOZ", "mozCrashReason"], ["aMoz"], id="beginning"),
        pytest.param("*Id", ["id", "ClientID"], ["Idx"], id="end"),
        pytest.param("a*b*a", ["aba", "aXbXa", "abba"], ["ab", "aa", "aba!"], id="several"),
        pytest.param("aa*a", ["aaa"], ["aa"], id="nothing counts twice"),
        pytest.param("a[b]?.", ["A[B]?."], ["ab", "a[b]x."], id="nothing else is special"),
        pytest.param("*", ["", "x"], [], id="all"),
        pytest.param("STRASSE", ["straße"], [], id="case of all languages"),
    ],
)
def test_a_pattern(pattern: str, matching: list[str], others: list[str]) -> None:
    patterns = NamePatterns([pattern])
    assert [name for name in [*matching, *others] if patterns.match(name)] == matching


def test_without_patterns_nothing_matches() -> None:
    assert not NamePatterns([])
    assert not NamePatterns([]).match("")
    assert NamePatterns(["a"])
