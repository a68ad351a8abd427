"""
The declarations of the metrics, and the page that is made of them.
"""

import re
import runpy
import sys
from pathlib import Path

import pytest

from collectord.metrics import REGISTRY, declared

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "metrics.rst"


def make_table(*arguments: str | Path) -> int:
    """As from the command line; return the exit status."""
    script = str(ROOT / "scripts" / "metrics_table.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(script, run_name="__main__")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_table_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert (make_table("--check"), capsys.readouterr().err) == (0, "")


def test_a_table_that_is_not_is_found_and_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = tmp_path / "metrics.rst"
    stale.write_text(DOCS.read_text().replace("``collectord_received_total``", "``collectord_taken_total``   "))
    assert make_table("--check", stale) == 1
    assert "run python scripts/metrics_table.py" in capsys.readouterr().err
    assert make_table(stale) == 0
    assert stale.read_text() == DOCS.read_text()


def test_a_page_without_a_place_for_it_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "metrics.rst"
    page.write_text("Metrics\n")
    assert make_table(page) == 1
    assert page.read_text() == "Metrics\n"


def test_every_metric_of_the_registry_is_declared_and_in_the_table() -> None:
    names = {metric.name for metric in REGISTRY.collect()}
    assert names == {metric.name for metric in declared()}
    for metric in declared():
        name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
        assert f"``{name}``" in DOCS.read_text()


def test_names_and_texts_are_as_prometheus_wants_them() -> None:
    for metric in declared():
        assert re.fullmatch(r"collectord_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.text.endswith(".")
        assert not {"le", "quantile", "job", "instance", "path"} & set(metric.labels)
        if metric.kind == "histogram":
            assert metric.name.endswith(("_seconds", "_bytes"))
