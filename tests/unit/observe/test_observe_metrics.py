"""
The declarations of the metrics, and the page that is made of them.
"""

import re
import subprocess
import sys
from pathlib import Path

from collectord.metrics import REGISTRY, declared

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "metrics.rst"


def make_table(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "metrics_table.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_table_is_up_to_date() -> None:
    ran = make_table("--check")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_table_that_is_not_is_found_and_made_anew(tmp_path: Path) -> None:
    stale = tmp_path / "metrics.rst"
    stale.write_text(DOCS.read_text().replace("``collectord_received_total``", "``collectord_taken_total``   "))
    ran = make_table("--check", stale)
    assert ran.returncode == 1
    assert "run python scripts/metrics_table.py" in ran.stderr
    assert make_table(stale).returncode == 0
    assert stale.read_text() == DOCS.read_text()


def test_a_page_without_a_place_for_it_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "metrics.rst"
    page.write_text("Metrics\n")
    assert make_table(page).returncode == 1
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
