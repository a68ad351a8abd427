from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.crashid import DEPTH, day_of, depth_of, is_crash_id, make_crash_id
from tests.support.cases import for_each

SOME = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
UUID4 = UUID("8f63752c-57c6-4e5d-b2cf-cabdefedcba9")
DAYS = st.dates(date(2000, 1, 1), date(2099, 12, 31))


def test_the_example_of_the_design() -> None:
    assert make_crash_id(UUID4.bytes, date(2016, 6, 22)) == SOME
    assert is_crash_id(SOME)
    assert day_of(SOME) == date(2016, 6, 22)
    assert depth_of(SOME) == 2


@given(st.uuids(version=4), DAYS)
def test_made_ids_are_ids(uuid: UUID, day: date) -> None:
    crash_id = make_crash_id(uuid.bytes, day)
    assert is_crash_id(crash_id)
    assert crash_id[:29] == str(uuid)[:29]
    assert crash_id[29:] == f"{DEPTH}{day.strftime('%y%m%d')}"
    assert day_of(crash_id) == day
    assert depth_of(crash_id) == DEPTH == 2


@for_each(
    ("digit", "depth"),
    [("0", 4), ("1", 1), ("2", 2), ("3", 3), ("4", 4)],
)
def test_depths_of_other_collectors(digit: str, depth: int) -> None:
    crash_id = f"{SOME[:29]}{digit}{SOME[30:]}"
    assert is_crash_id(crash_id)
    assert depth_of(crash_id) == depth


@for_each(
    "text",
    [
        "",
        "8f63752c-57c6-4e5d-b2cf-cabde2161322",  # no such month
        "8f63752c-57c6-4e5d-b2cf-cabde2160022",
        "8f63752c-57c6-4e5d-b2cf-cabde2160631",  # no such day
        "8f63752c-57c6-4e5d-b2cf-cabde2160600",
        "8f63752c-57c6-4e5d-b2cf-cabde2150229",  # not a leap year
        "8f63752c-57c6-4e5d-b2cf-cabde5160622",  # no such depth
        "8f63752c-57c6-4e5d-b2cf-cabde9160622",
        "8f63752c-57c6-4e5d-b2cf-cabdea160622",
        SOME.upper(),
        "8F63752c-57c6-4e5d-b2cf-cabde2160622",
        f"bp-{SOME}",
        f" {SOME}",
        f"{SOME}\n",
        f"{SOME}160622",
        f"{SOME}/../{SOME}",
        SOME[:-1],
        f"{SOME}0",
        SOME.replace("-", ""),
        "8f63752c57c6--4e5d-b2cf-cabde2160622",
        "8f63752c-57c6-4e5d-b2cf-cabde216\N{DEVANAGARI DIGIT ZERO}622",  # a digit, but not of ours
        "../../../../../../../../etc/pas2160622",
        str(UUID4),
    ],
)
def test_what_is_no_crash_id(text: str) -> None:
    assert not is_crash_id(text)


@given(st.text(max_size=40))
def test_arbitrary_text_is_no_crash_id(text: str) -> None:
    assert not is_crash_id(text)


@given(st.integers(0, 35), st.characters())
def test_one_changed_character_is_still_judged_by_its_shape(at: int, character: str) -> None:
    text = SOME[:at] + character + SOME[at + 1 :]
    if is_crash_id(text):
        assert set(text) <= set("0123456789abcdef-")
        assert [i for i, c in enumerate(text) if c == "-"] == [8, 13, 18, 23]
        assert 2000 <= day_of(text).year <= 2099
        assert 1 <= depth_of(text) <= 4


def test_a_leap_day() -> None:
    assert day_of("8f63752c-57c6-4e5d-b2cf-cabde2160229") == date(2016, 2, 29)
    with pytest.raises(ValueError, match="day"):
        day_of("8f63752c-57c6-4e5d-b2cf-cabde2150229")
