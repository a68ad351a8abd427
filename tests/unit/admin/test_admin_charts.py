from xml.etree.ElementTree import tostring

import pytest

from collectord.admin.axes import Tick, round_above, short, ticks
from collectord.admin.paths import Layer, bars, layers, line
from collectord.admin.plots import Mark, Plot, bar, plot, spark
from tests.support.cases import for_each

NOW = 1_466_608_800.0


def test_areas_lie_one_on_the_other() -> None:
    assert layers([[1.0, 1.0], [0.0, 1.0]], 2.0) == [
        Layer("M0 50.0L1000 50.0L1000 100.0L0 100.0Z", "M0 50.0L1000 50.0"),
        Layer("M0 50.0L1000 0.0L1000 50.0L0 50.0Z", "M0 50.0L1000 0.0"),
    ]


def test_a_gap_is_a_gap() -> None:
    assert line([1.0, 1.0, None, 2.0, 2.0], 2.0) == "M0 50.0L250 50.0M750 0.0L1000 0.0"
    (layer,) = layers([[1.0, 1.0, None, 2.0, 2.0]], 2.0)
    assert layer.area.count("M") == layer.area.count("Z") == 2


def test_a_value_alone_can_be_seen() -> None:
    assert line([None, 1.0, None], 1.0) == "M250 0.0L750 0.0"
    assert line([None, None, 1.0], 1.0) == "M750 0.0L1000 0.0"


@for_each("values", [[], [None, None], [0.0, 0.0]])
def test_nothing_to_draw(values: list[float | None]) -> None:
    for layer in layers([values], 0.0):
        assert "NaN" not in layer.area
    assert bars(values, 0.0) == ""


def test_bars() -> None:
    assert bars([0.0, 5.0, None, 10.0], 10.0) == "M25.0 20v-10.0h20.0V20zM75.0 20v-20.0h20.0V20z"
    assert "v-1.0" in bars([0.001, 10.0], 10.0)


@for_each(
    ("most", "expected"),
    [(0, 1), (0.07, 0.08), (1, 1), (1.2, 2), (6.1, 8), (9.1, 10), (8912, 10_000), (10_000, 10_000)],
)
def test_the_round_number_above(most: float, expected: float) -> None:
    assert round_above(most) == pytest.approx(expected)


def test_short_numbers() -> None:
    assert [short(each) for each in (0.5, 4, 1500, 10_000, 2e6)] == ["0.5", "4", "1.5 k", "10 k", "2 M"]


@for_each(
    ("length", "texts"),
    [
        (600, ["15:12", "15:14", "15:16", "15:18"]),
        (86400, ["Tue 20:00", "Wed 0:00", "4:00", "8:00", "12:00"]),
        (2592000, ["29 May", "3 Jun", "8 Jun", "13 Jun", "18 Jun"]),
    ],
)
def test_round_times(length: float, texts: list[str]) -> None:
    found = ticks(NOW - length, NOW)
    assert [tick.text for tick in found] == texts
    assert all(0 <= tick.share < 0.95 for tick in found)
    assert isinstance(found[0], Tick)
    assert [tick.is_spare for tick in found[:3]] == [False, True, False]


def plotted(**more: object) -> str:
    shown = Plot(
        began=NOW - 600,
        ended=NOW,
        stacked=[("kept", [1.0, 2.0]), ("left", [1.0, 4.0])],
        dashed=[1.0, 1.0],
        tips=["<first>", "second"],
        unit="/s",
        says="A chart",
        **more,  # type: ignore[arg-type]
    )
    return tostring(plot(shown), encoding="unicode")


def test_a_chart() -> None:
    svg = plotted()
    assert ">6/s</text>" in svg
    assert '<path class="area-left"' in svg
    assert '<path class="line-moved" d="M0 83.3L1000 83.3"' in svg
    assert "<title>&lt;first&gt;</title>" in svg
    assert 'aria-label="A chart"' in svg
    assert "style" not in svg


def test_a_moment_is_marked() -> None:
    assert 'class="event" x1="50.00%"' in plotted(mark=Mark(at=NOW - 300, text="now"))
    assert 'text-anchor="start">early' in plotted(mark=Mark(at=NOW - 590, text="early"))
    assert "event" not in plotted(mark=Mark(at=NOW - 900, text="before"))


def test_small_charts() -> None:
    assert "24 hours, 1,500 in the greatest hour" in tostring(spark([1500, 3], [1, 1]), encoding="unicode")
    shown = tostring(bar(0.59, floor=0.97, is_full=True, says="59 % used"), encoding="unicode")
    assert 'class="bar full"' in shown
    assert 'width="59.0%"' in shown
    assert 'x="97%"' in shown
    assert 'aria-hidden="true"' in tostring(bar(0.1), encoding="unicode")
