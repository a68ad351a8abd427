"""
The alerts and the dashboard: they ask for metrics that there are, and say where to read on.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from attrs import evolve

from collectord.metrics import DeclaredMetric, declared
from tests.support.cases import for_each

ROOT = Path(__file__).parents[3]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "etc" / "prometheus-alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((ROOT / "etc" / "grafana-dashboard.json").read_text())
PANELS = DASHBOARD["panels"]

OF_THE_SCRAPE = {"job", "instance"}
ROWS = [
    "Collecting",
    "Answers by reason",
    "Throttle",
    "Latency and size",
    "Stores",
    "Backlog",
    "Moving",
    "Daemon",
    "Products",
]

_LABELS = re.compile(r'(?:by|on) \(([^()]*)\)|[{,](\w+)(?:=~|!~|!=|=)"')


def series_of(metric: DeclaredMetric) -> dict[str, set[str]]:
    """Each name under which Prometheus sees a metric, and its labels."""
    labels = set(metric.labels)
    if metric.kind == "histogram":
        parts = {f"{metric.name}_{part}": labels for part in ("count", "sum")}
        return parts | {f"{metric.name}_bucket": labels | {"le"}}
    return {f"{metric.name}_total" if metric.kind == "counter" else metric.name: labels}


def exposed() -> dict[str, set[str]]:
    """Each name that Prometheus sees, and its labels."""
    names: dict[str, set[str]] = {"up": set()}
    for metric in declared():
        names |= series_of(metric)
    return names


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\bcollectord_\w+|\bup\b", expression))


def labels_in(expression: str) -> set[str]:
    found = {name for group in _LABELS.findall(expression) for part in group for name in part.split(",")}
    return {name.strip() for name in found} - {""}


def of_dashboard() -> Iterator[str]:
    """All its expressions."""
    for panel in PANELS:
        for target in panel.get("targets", []):
            yield target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["expr"]


EXPRESSIONS = [*(rule["expr"] for rule in RULES), *of_dashboard()]


def wrong_with(expression: str) -> str:
    """What it asks for that is not there."""
    names, asked = exposed(), metrics_in(expression)
    known = set[str]().union(OF_THE_SCRAPE, *(names.get(name, set()) for name in asked))
    return " ".join(sorted((asked - set(names)) | (labels_in(expression) - known)))


@for_each("expression", EXPRESSIONS)
def test_metrics_and_labels_exist(expression: str) -> None:
    assert metrics_in(expression) != set()
    assert wrong_with(expression) == ""


@for_each(
    ("expression", "wrong"),
    [
        ("rate(collectord_received[5m])", "collectord_received"),
        ("collectord_save_seconds", "collectord_save_seconds"),
        ("sum by (store, outlet) (collectord_store_free_bytes)", "outlet"),
        ('collectord_answers_total{instance=~"a",code="503"}', "code"),
        ("sum by (le) (collectord_save_seconds_count)", "le"),
        ('sum by (le) (rate(collectord_save_seconds_bucket{store="a"}[5m]))', ""),
    ],
)
def test_what_would_be_wrong(expression: str, wrong: str) -> None:
    assert wrong_with(expression) == wrong


def not_shown(metrics: Iterable[DeclaredMetric]) -> set[str]:
    """The metrics that no panel of the dashboard shows, by whole name: one may be the beginning of another."""
    shown = set[str]().union(*map(metrics_in, of_dashboard()))
    return {metric.name for metric in metrics if shown.isdisjoint(series_of(metric))}


def test_the_dashboard_shows_every_metric() -> None:
    assert not_shown(declared()) == set()


def test_a_metric_is_not_shown_by_the_panel_of_a_longer_one() -> None:
    beginning = evolve(next(iter(declared())), name="collectord_store", kind="gauge")
    assert not_shown([beginning]) == {"collectord_store"}


def test_the_dashboard_can_be_imported_anywhere() -> None:
    datasource = {"type": "prometheus", "uid": "${datasource}"}
    assert DASHBOARD["schemaVersion"] == 38  # of Grafana 10
    assert "id" not in DASHBOARD
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]
    for panel in PANELS:
        if panel["type"] != "row":
            assert panel["datasource"] == datasource
            assert [target["datasource"] for target in panel["targets"]] == [datasource] * len(panel["targets"])
    # With one instance chosen, all panels show it alone.
    assert [expression for expression in of_dashboard() if 'instance=~"$instance"' not in expression] == []


def test_the_panels_have_a_place_of_their_own() -> None:
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == ROWS
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def sections(page: str) -> set[str]:
    """The titles in a page of docs/."""
    return set(re.findall(r"^(.+)\n[-=]{3,}$", (ROOT / page).read_text(), re.MULTILINE))


@for_each("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert "$labels.instance" in rule["annotations"]["summary"]
    page, _, section = rule["annotations"]["runbook"].partition(", ")
    assert page == "docs/operations.rst"
    assert section in sections(page)


def test_the_docs_have_each_alert_and_no_other() -> None:
    assert sections("docs/alerts.rst") == {"Alerts", *(rule["alert"] for rule in RULES)}
