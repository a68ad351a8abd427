import math

from collectord.admin.format import (
    age,
    count,
    day,
    iso,
    moment,
    number_of,
    rate,
    share,
    span,
    time_of_day,
    visible,
    when,
)
from collectord.admin.machine import median_below
from collectord.index.day import Series
from tests.support.cases import for_each


@for_each(
    ("said", "expected"),
    [
        (count(1234567), "1,234,567"),
        (rate(0), "0.0"),
        (rate(12.34), "12.3"),
        (rate(1234.5), "1,234"),
        (span(0), "0 s"),
        (span(-3), "0 s"),
        (span(59.6), "1 min"),
        (span(725), "12 min 5 s"),
        (span(3600), "1 h"),
        (span(3630), "1 h"),
        (span(273_600), "3 d 4 h"),
        (share(1, 8), "12.5 %"),
        (share(1, 10_000), "< 0.1 %"),
        (share(0, 10), "0.0 %"),
        (share(0, 0), "0.0 %"),
        (moment(1466608789.9), "2016-06-22 15:19:49"),
        (time_of_day(1466608789.9), "15:19:49"),
        (age(0), "0 s"),
        (age(59.9), "59 s"),
        (age(7199), "1 h"),
        (day(1466608789.9), "22 Jun 2016"),
        (when(1466608789.9, 1466608800.0), "15:19:49"),
        (when(1466008789.9, 1466608800.0), "15 Jun 16:39"),
        (when(1366608789.9, 1466608800.0), "22 Apr 2013"),
        (iso(1466608789.9), "2016-06-22T15:19:49Z"),
        (number_of(1, "crash", "crashes"), "1 crash"),
        (number_of(1200, "other"), "1,200 others"),
        (visible("a\r\nb\tc"), "a\nb\tc"),
        (visible("naïve שלום 日本 🦊 é"), "naïve שלום 日本 🦊 é"),
        (visible("\u2066\u200b\U000e0041\ufeff\ufffe"), "⟨U+2066⟩⟨U+200B⟩⟨U+E0041⟩⟨U+FEFF⟩⟨U+FFFE⟩"),
    ],
)
def test_words(said: str, expected: str) -> None:
    assert said == expected


def test_the_median_of_what_only_bounds_are_known_of() -> None:
    took: dict[Series, float] = {("0.1",): 1.0, ("1.0",): 9.0, ("+Inf",): 10.0}
    assert median_below(took) == 1.0
    took["+Inf",] = 100.0
    assert median_below(took) == math.inf
    assert median_below({}) is median_below({("+Inf",): 0.0}) is None
