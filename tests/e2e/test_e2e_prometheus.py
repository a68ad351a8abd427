"""
What Prometheus itself says: to the alerts, to the dashboard's expressions, and to a daemon that it scrapes.
"""

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen

from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.http import post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.server import Server
from tests.support.wait import until

pytestmark = pytest.mark.e2e

ALERTS = ROOT / "etc" / "prometheus-alerts.yml"
DASHBOARD = ROOT / "etc" / "grafana-dashboard.json"

_MINUTES = 9 * 60
"""For which there are values, one a minute."""

_STARTED = "collectord_start_time_seconds"
_503 = 'collectord_answers_total{status="503",reason="nowhere_to_save"}'
_BAD = 'collectord_reloads_total{result="refused"}'

# A daemon that is well, and has been for a day.
_WELL = {
    "up": "1",
    _STARTED: "-86400",
    "collectord_received_total": "0+60x",
    'collectord_answers_total{status="200",reason="kept"}': "0+59x",
    'collectord_answers_total{status="400",reason="malformed_bad_gzip"}': "0+1x",
    _503: "7",
    'collectord_store_left_alone{store="a"}': "0",
    'collectord_store_left_alone{store="b"}': "0",
    "collectord_losing_crashes": "0",
    "collectord_draining": "0",
    'collectord_certificate_expiry_timestamp_seconds{listen="ssl:443"}': "9000000",
    'collectord_store_well{store="a"}': "1",
    'collectord_store_free_bytes{store="a"}': "20000000000-10000000x",
    'collectord_backlog_crashes{store="a"}': "5000-1x",
    'collectord_backlog_oldest_age_seconds{store="a"}': "60",
    'collectord_disk_pressure{left_out="attachments"}': "0",
    'collectord_disk_pressure{left_out="equal crashes"}': "0",
    'collectord_retention_lag_seconds{store="a"}': "0",
    'collectord_outlet_well{outlet="s3"}': "1",
    'collectord_quarantine_crashes{store="a"}': "3",
    'collectord_reactor_lag_seconds_bucket{work="receive",le="0.01"}': "0+99x",
    'collectord_reactor_lag_seconds_bucket{work="receive",le="0.5"}': "0+100x",
    'collectord_reactor_lag_seconds_bucket{work="receive",le="1.0"}': "0+100x",
    'collectord_reactor_lag_seconds_bucket{work="receive",le="+Inf"}': "0+100x",
    'collectord_reactor_lag_seconds_bucket{work="move",le="0.01"}': "0+99x",
    'collectord_reactor_lag_seconds_bucket{work="move",le="0.5"}': "0+100x",
    'collectord_reactor_lag_seconds_bucket{work="move",le="1.0"}': "0+100x",
    'collectord_reactor_lag_seconds_bucket{work="move",le="+Inf"}': "0+100x",
    "collectord_worker_restarts_total": "4",
    "collectord_workers": "2",
    "collectord_workers_hung": "0",
    "collectord_movers": "2",
    "collectord_movers_wanted": "2",
    "collectord_log_lines_lost_total": "3",
    'collectord_reloads_total{result="done"}': "0+1x",
    _BAD: "2",
    'collectord_retention_failures_total{store="a"}': "0",
    "collectord_ledger_failures_total": "1",
    "collectord_index_failures_total": "1",
    'collectord_product_reports_total{product="App",result="kept"}': "0+30x",
    'collectord_product_reports_total{product="App",result="not_kept"}': "0+5x",
}


@frozen
class Case:
    """
    What happens from minute 420 on, and which alerts fire at some minutes.

    @ivar changed: for series, the values from then on; empty: there are none.
    @ivar always: for series, the values from the beginning.
    """

    changed: Mapping[str, str]
    firing: Mapping[int, Sequence[str]]
    always: Mapping[str, str] = {}


_EXPIRED = ["CollectordCertificateExpired", "CollectordCertificateExpires"]

_CASES = {
    "nothing": Case({}, {30: [], 420: [], 430: [], 539: []}),
    "no answer": Case({"up": "0"}, {421: [], 423: ["CollectordDown"]}),
    "no target": Case({"up": ""}, {423: [], 430: ["CollectordDown"]}),
    "a blink": Case({"up": "0 1x"}, {421: [], 423: []}),
    "starts over and over": Case({_STARTED: "25200+60x"}, {421: [], 425: ["CollectordRestartsOften"]}),
    "one start": Case({_STARTED: "25200"}, {421: [], 425: []}),
    "503": Case(
        {_503: "8"},
        {419: [], 421: ["CollectordRefuses"], 427: []},
    ),
    "the first 503": Case({_503: "1"}, {419: [], 421: ["CollectordRefuses"], 426: []}, {_503: ""}),
    "a first 503 before Prometheus looked": Case({}, {1: [], 5: []}),
    "a store fails": Case(
        {'collectord_store_left_alone{store="b"}': "2"}, {421: [], 423: ["CollectordStoreLeftAlone"]}
    ),
    "a store fails its check": Case(
        {'collectord_store_well{store="a"}': "0"}, {421: [], 423: ["CollectordStoreLeftAlone"]}
    ),
    "crashes are lost": Case(
        {"collectord_losing_crashes": "1 0x"}, {419: [], 420: ["CollectordLosesCrashes"], 421: []}
    ),
    "a full disk whose space can be read": Case(
        {'collectord_store_free_bytes{store="a"}': "0", 'collectord_store_well{store="a"}': "0"},
        {minute: ["CollectordSpaceLow", "CollectordStoreLeftAlone"] for minute in (426, 475)},
    ),
    "a full disk that hangs in the end": Case(
        {
            'collectord_store_free_bytes{store="a"}': "0x9 _x",
            'collectord_backlog_oldest_age_seconds{store="a"}': "1801x12 _x",
            'collectord_store_well{store="a"}': "0",
        },
        {minute: ["CollectordBacklogOld", "CollectordSpaceLow", "CollectordStoreLeftAlone"] for minute in (435, 475)},
    ),
    "a certificate expires": Case(
        {'collectord_certificate_expiry_timestamp_seconds{listen="ssl:443"}': "26000"},
        {419: [], 420: ["CollectordCertificateExpires"], 430: ["CollectordCertificateExpires"], 434: _EXPIRED},
    ),
    "it drains": Case({"collectord_draining": "2"}, {420: [], 479: [], 481: ["CollectordDrains"]}),
    "a store failed for a minute": Case({'collectord_store_left_alone{store="b"}': "1 0x"}, {421: [], 423: []}),
    "little space": Case(
        {'collectord_store_free_bytes{store="a"}': "900000000"}, {424: [], 426: ["CollectordSpaceLow"]}
    ),
    "attachments are left out": Case(
        {'collectord_disk_pressure{left_out="attachments"}': "2 0x"},
        {419: [], 420: ["CollectordDiskPressure"], 421: []},
    ),
    "space goes": Case(
        {'collectord_store_free_bytes{store="a"}': "16000000000-50000000x"}, {430: [], 539: ["CollectordSpaceRunsOut"]}
    ),
    "the clock jumps": Case(
        {'collectord_retention_lag_seconds{store="a"}': "86401 80000x"},
        {419: [], 420: ["CollectordClockJumped"], 421: []},
    ),
    "an old backlog": Case(
        {'collectord_backlog_oldest_age_seconds{store="a"}': "1801"}, {429: [], 431: ["CollectordBacklogOld"]}
    ),
    "a backlog that grows": Case(
        {'collectord_backlog_crashes{store="a"}': "4580+10x"}, {440: [], 500: ["CollectordBacklogGrows"]}
    ),
    "a small backlog that grows": Case({'collectord_backlog_crashes{store="a"}': "0+5x"}, {500: []}),
    "an outlet fails": Case({'collectord_outlet_well{outlet="s3"}': "0"}, {434: [], 436: ["CollectordOutletFails"]}),
    "an outlet failed": Case({'collectord_outlet_well{outlet="s3"}': "0x13 1x"}, {433: [], 436: []}),
    "a broken crash": Case(
        {'collectord_quarantine_crashes{store="a"}': "4"}, {421: ["CollectordQuarantineGrows"], 490: []}
    ),
    "the quarantine is emptied": Case({'collectord_quarantine_crashes{store="a"}': "0"}, {421: []}),
    "a slow reactor": Case(
        {'collectord_reactor_lag_seconds_bucket{work="receive",le="0.01"}': "41580+50x"}
        | {'collectord_reactor_lag_seconds_bucket{work="receive",le="0.5"}': "42000+90x"},
        {425: [], 440: ["CollectordReactorLags"]},
    ),
    "movers that are late": Case(
        {'collectord_reactor_lag_seconds_bucket{work="move",le="0.01"}': "41580+50x"}
        | {'collectord_reactor_lag_seconds_bucket{work="move",le="0.5"}': "42000+90x"},
        {425: [], 440: []},
    ),
    "a mover is missing": Case({"collectord_movers": "1"}, {421: [], 423: ["CollectordMoversMissing"]}),
    "a mover is replaced": Case({"collectord_movers": "1 2x"}, {421: [], 423: []}),
    "no process only moves": Case({}, {423: []}, {"collectord_movers": "0", "collectord_movers_wanted": "0"}),
    "workers die": Case({"collectord_worker_restarts_total": "4+1x"}, {422: [], 426: ["CollectordWorkersDie"]}),
    "no workers": Case({"collectord_workers": "0"}, {420: [], 422: ["CollectordNoWorkers"]}),
    "a worker hangs": Case({"collectord_workers_hung": "1 0x"}, {419: [], 421: ["CollectordWorkerHangs"], 428: []}),
    "log lines are lost": Case({"collectord_log_lines_lost_total": "3+9x"}, {419: [], 422: ["CollectordLogLinesLost"]}),
    "one worker died": Case({"collectord_worker_restarts_total": "5"}, {421: [], 426: []}),
    "a bad reload": Case({_BAD: "3"}, {421: ["CollectordReloadFailed"], 440: []}),
    "the first bad reload": Case({_BAD: "1"}, {421: ["CollectordReloadFailed"], 436: []}, {_BAD: ""}),
    "the journal fails": Case({"collectord_ledger_failures_total": "1+1x"}, {423: ["CollectordLedgerFails"]}),
    "one pass of retention fails": Case({'collectord_retention_failures_total{store="a"}': "1"}, {425: [], 500: []}),
    "retention fails": Case(
        {'collectord_retention_failures_total{store="a"}': "0+0.2x"}, {421: [], 440: ["CollectordRetentionFails"]}
    ),
    "the index fails": Case({"collectord_index_failures_total": "1+1x"}, {423: [], 440: ["CollectordIndexFails"]}),
    "one bug of a product": Case(
        {'collectord_product_reports_total{product="App",result="not_kept"}': "2100+2000x"},
        {424: [], 535: ["CollectordProductFloods"]},
    ),
    "nobody crashes": Case({"collectord_received_total": "25200"}, {539: []}),  # for two hours
    "nobody has crashed since the start": Case(
        {}, {365: [], 539: ["CollectordNoCrashes"]}, {"collectord_received_total": "9", _STARTED: "0"}
    ),
}


def values(before: str, after: str | None) -> str:
    """In promtool's notation: C{5} stays, C{0+1x} goes on; the second from minute 420 on."""

    def lasting(notation: str, minutes: int) -> str:
        if not notation:
            return f"_x{minutes + 1}"
        *first, last = notation.split()
        minutes -= sum(int(piece.partition("x")[2] or 0) + 1 for piece in first)
        return " ".join([*first, f"{last.removesuffix('x')}x{minutes}"])

    if after is None:
        return lasting(before, _MINUTES)
    return f"{lasting(before, 419)} {lasting(after, _MINUTES - 420)}"


def check(tool: str, *arguments: str | Path, content: bytes = b"") -> str:
    """What promtool says; an C{AssertionError} if it is not content."""
    ran = subprocess.run(["promtool", tool, *arguments], input=content, capture_output=True, check=False)
    output = (ran.stdout + ran.stderr).decode()
    assert ran.returncode == 0, output
    return output


def series(name: str) -> str:
    """With the labels of a scrape."""
    metric, _, labels = name.partition("{")
    return f'{metric}{{job="collectord",instance="host:8001"{"," if labels.strip("}") else ""}{labels.strip("}")}}}'


@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)
def test_alerts_fire_when_they_should_and_only_then(case: Case, tmp_path: Path) -> None:
    assert {*case.changed, *case.always} <= set(_WELL)
    before = {**_WELL, **case.always}
    inputs = {series(name): values(before[name], case.changed.get(name)) for name in before}
    tests = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in firing],
        }
        for minute, firing in case.firing.items()
    ]
    group = {
        "interval": "1m",
        "input_series": [{"series": name, "values": value} for name, value in inputs.items()],
        "promql_expr_test": tests,
    }
    test_file = tmp_path / "test.yml"  # JSON is YAML
    test_file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [group]}))
    check("test", "rules", test_file)


def alerts_of_ours() -> Sequence[str]:
    """The names of all alerts."""
    return re.findall(r"alert: (\w+)", ALERTS.read_text())


def test_every_alert_is_made_to_fire_and_not_to_fire() -> None:
    fired = {alert for case in _CASES.values() for firing in case.firing.values() for alert in firing}
    assert fired == set(alerts_of_ours())


def test_the_rules_are_right() -> None:
    assert f" {len(alerts_of_ours())} rules found" in check("check", "rules", "--lint-fatal", ALERTS)


def test_the_expressions_of_the_dashboard_are_right(tmp_path: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    expressions += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    rules = []
    for number, expression in enumerate(expressions):
        for variable, value in {"$__rate_interval": "1m", "$__range": "6h", "$instance": ".*"}.items():
            expression = expression.replace(variable, value)
        rules.append({"record": f"panel:{number}", "expr": expression})
    rule_file = tmp_path / "rules.yml"
    rule_file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(expressions)} rules found" in check("check", "rules", rule_file)


@define
class Prometheus(Server):
    """Scrapes a daemon four times a second, and watches the alerts."""

    target: int
    port: int = field(factory=free_port)

    def command(self) -> Sequence[str]:
        settings = self.log.parent / "prometheus.yml"
        jobs = [{"job_name": "collectord", "static_configs": [{"targets": [f"127.0.0.1:{self.target}"]}]}]
        every = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
        settings.write_text(json.dumps({"global": every, "rule_files": [str(ALERTS)], "scrape_configs": jobs}))
        return [
            "prometheus",
            f"--config.file={settings}",
            f"--storage.tsdb.path={self.log.parent / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def answers(self) -> bool:
        try:
            return bool(self.get("/api/v1/targets")["activeTargets"])
        except OSError:
            return False

    def get(self, path: str, **query: str) -> Any:
        """From its API."""
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)["data"]

    def value(self, expression: str) -> float | None:
        """Of an expression that gives one; None: it gives none."""
        found = self.get("/api/v1/query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None


@pytest.mark.parametrize("workers", [1, 2])
def test_prometheus_scrapes_a_daemon(workers: int, tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    toml = config(port, tmp_path / "root", submission=f"workers = {workers}", admin=admin)
    (tmp_path / "prometheus").mkdir()
    with (
        Daemon(toml, port, tmp_path / "daemon"),
        Prometheus(tmp_path / "prometheus" / "log", target=admin) as prometheus,
    ):
        until(lambda: prometheus.value('up{job="collectord"}') == 1)
        until(lambda: prometheus.value("collectord_received_total") == 0)
        for number in range(5):
            crash_id_in(post(port, make_report(f"report-{number}", 10_000).body(), HEADERS))
        until(lambda: prometheus.value("collectord_received_total") == 5)
        until(lambda: prometheus.value('collectord_answers_total{status="200",reason="kept"}') == 5)
        assert prometheus.value("sum (collectord_save_seconds_count)") == 5
        assert prometheus.value("collectord_workers") == workers
        groups = prometheus.get("/api/v1/rules")["groups"]
        alerts = [rule for group in groups for rule in group["rules"]]
        assert sorted(alert["name"] for alert in alerts) == sorted(alerts_of_ours())
        until(lambda: all(rule["health"] == "ok" for rule in prometheus.get("/api/v1/rules")["groups"][0]["rules"]))
        assert [alert for alert in prometheus.get("/api/v1/alerts")["alerts"] if alert["state"] == "firing"] == []
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as response:
            exposed = response.read()
        check("check", "metrics", content=exposed)
        assert f"collectord_workers {workers}" in exposed.decode()
