from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectord.throttle.versions import is_below, parse_version
from tests.support.cases import for_each

ASCENDING = [
    "0",
    "1.8.0.4",
    "4.0b12pre",
    "4.0b12",
    "4.0",
    "45.0a1",
    "45.0b2",
    "45.0b10",
    "45.0esr",
    "45.0",
    "45.0.1",
    "45.0.1.1",
    "45.2",
    "45.10",
    "100.0a1",
    "100.0",
]

versions = st.from_regex(r"[0-9]{1,3}([ab.\-+é]|[0-9]){0,8}", fullmatch=True)
# In a fresh checkout hypothesis first makes its table of all characters, which takes longer than it allows a test.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

anything = st.text(st.characters(exclude_categories=()))


def below(one: str, other: str) -> bool:
    version, limit = parse_version(one), parse_version(other)
    assert version is not None
    assert limit is not None
    return is_below(version, limit)


def test_the_order_of_versions() -> None:
    for low, one in enumerate(ASCENDING):
        for high, other in enumerate(ASCENDING):
            assert below(one, other) == (low < high), (one, other)


@for_each(("one", "other"), [("45", "45.0"), ("45.0", "45.0.0.0"), ("045.01", "45.1"), ("1.", "1")])
def test_the_same_version_written_in_two_ways(one: str, other: str) -> None:
    assert not below(one, other)
    assert not below(other, one)


def test_a_suffix_deep_down_comes_before_the_shorter_version() -> None:
    assert below("45.0.0b1", "45")
    assert below("45.0.0b1", "45.0")


@for_each("text", ["", "abc", ".5", "v45", " 45", "-1", "\ud800", "٣.0", "1" * 101])
def test_no_version(text: str) -> None:
    assert parse_version(text) is None


def test_a_number_beyond_what_int_takes() -> None:
    assert below("9" * 99, "1" + "0" * 99)
    assert parse_version("9" * 10_000) is None


@unhurried
@given(anything)
def test_any_text_is_a_version_or_is_not(text: str) -> None:
    version = parse_version(text)
    assert version is None or not is_below(version, version)


@unhurried
@given(versions, versions, versions)
def test_the_order_is_total(a: str, b: str, c: str) -> None:
    assert not (below(a, b) and below(b, a))
    if below(a, b) and below(b, c):
        assert below(a, c)
    if not below(a, b) and not below(b, a):
        assert below(a, c) == below(b, c)
        assert below(c, a) == below(c, b)
