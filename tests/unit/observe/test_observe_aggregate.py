import json

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from collectord.metrics import declared
from collectord.observe.aggregate import _WORST, AggregatedRegistry, snapshot_of


class Process:
    """Counts for itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("answers", "Help.", ["status"], registry=self.registry)
        self.open = Gauge("open", "Help.", registry=self.registry)
        self.seconds = Histogram("seconds", "Help.", ["store"], buckets=(1, 10), registry=self.registry)

    def sent(self) -> object:
        return json.loads(json.dumps(snapshot_of(self.registry)))


@pytest.fixture
def here() -> Process:
    return Process()


def shown(aggregated: AggregatedRegistry) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(aggregated)
    lines = [line.rpartition(" ") for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in lines if "_created" not in name}


def test_this_process_alone(here: Process) -> None:
    here.answers.labels("200").inc()
    assert shown(AggregatedRegistry(here.registry)) == {'answers_total{status="200"}': 1, "open": 0}


def test_sums(here: Process) -> None:
    there, aggregated = Process(), AggregatedRegistry(here.registry)
    here.answers.labels("200").inc(2)
    there.answers.labels("200").inc(3)
    there.answers.labels("503").inc()
    here.open.set(5)
    there.open.set(7)
    there.seconds.labels("a").observe(5)
    here.seconds.labels("a").observe(0.5)
    aggregated.update("there", there.sent())  # type: ignore[arg-type]
    assert shown(aggregated) == {
        'answers_total{status="200"}': 5,
        'answers_total{status="503"}': 1,
        "open": 12,
        'seconds_bucket{le="1.0",store="a"}': 1,
        'seconds_bucket{le="10.0",store="a"}': 2,
        'seconds_bucket{le="+Inf",store="a"}': 2,
        'seconds_count{store="a"}': 2,
        'seconds_sum{store="a"}': 5.5,
    }


def test_the_newest_counts(here: Process) -> None:
    there, aggregated = Process(), AggregatedRegistry(here.registry)
    for _ in range(3):
        there.answers.labels("200").inc()
        aggregated.update("there", there.sent())  # type: ignore[arg-type]
    assert shown(aggregated)['answers_total{status="200"}'] == 3


def test_counters_of_a_process_that_ended_still_count(here: Process) -> None:
    aggregated = AggregatedRegistry(here.registry)
    for life in range(3):
        there = Process()
        there.answers.labels("200").inc()
        there.seconds.labels("a").observe(5)
        there.open.set(9)
        aggregated.update(life, there.sent())  # type: ignore[arg-type]
        aggregated.forget(life)
    aggregated.forget("never heard of")
    counted = shown(aggregated)
    assert counted['answers_total{status="200"}'] == 3
    assert counted['seconds_count{store="a"}'] == 3
    assert counted["open"] == 0


def test_of_what_each_process_finds_out_by_itself_the_worst_counts() -> None:
    def process(dangling: float) -> CollectorRegistry:
        registry = CollectorRegistry()
        Gauge("collectord_dangling_links", "", ["store"], registry=registry).labels("/a").set(dangling)
        return registry

    aggregated = AggregatedRegistry(process(3))
    aggregated.update("one", snapshot_of(process(2)))
    aggregated.update("two", snapshot_of(process(3)))
    assert [sample.value for metric in aggregated.collect() for sample in metric.samples] == [3]
    assert _WORST.keys() <= {metric.name for metric in declared()}
