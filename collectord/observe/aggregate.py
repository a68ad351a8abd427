"""
The metrics of several processes, shown as those of one: each worker sends what it has counted, and its parent adds up.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import add
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

Snapshot = Sequence[Any]
"""Metrics as JSON: a list of C{[name, type, samples]}, where each sample is C{[name, labels, value]}."""

_Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by the name of the sample and its labels."""

_CUMULATIVE = frozenset({"counter", "histogram"})

_WORST: Mapping[str, Callable[[float, float], float]] = {
    "collectord_dangling_links": max,
}
"""The gauges of which each process finds out the whole value, so that a sum would say nothing: the worst counts."""


def snapshot_of(registry: CollectorRegistry) -> Snapshot:
    """Return what C{registry} has counted so far, in a shape that can be sent to another process as JSON."""
    return [
        [metric.name, metric.type, [[sample.name, dict(sample.labels), sample.value] for sample in metric.samples]]
        for metric in registry.collect()
    ]


def total_in(snapshot: Snapshot, name: str) -> float:
    """Return a counter without labels as it is in a snapshot; 0 if it is not there."""
    samples = next((samples for metric, _, samples in snapshot if metric == name), ())
    return sum(float(value) for sample, _, value in samples if sample == f"{name}_total")


class AggregatedRegistry(Collector):
    """
    Adds up the metrics of this process and of its workers, for Prometheus to read. Of some gauges the worst counts.

    When a worker is gone its counters and histograms still count, so that the sums never fall. Its gauges do not, since
    they say how something is at the moment.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._others: dict[
            object, dict[str, tuple[str, Sequence[Any]]]
        ] = {}  # Type and samples of each metric, by its name.
        self._gone: dict[str, _Values] = {}

    def update(self, process: object, metrics: Snapshot) -> None:
        """Take what C{process} has counted so far, in the place of what it sent before."""
        self._others[process] = {name: (kind, samples) for name, kind, samples in metrics}

    def forget(self, process: object) -> None:
        """Note that C{process} has ended: its counters go on to count, and its gauges do not."""
        for name, (kind, samples) in self._others.pop(process, {}).items():
            if kind in _CUMULATIVE:
                _add(self._gone.setdefault(name, {}), samples)

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with the values of all processes added up; the Prometheus client calls this."""
        for metric in self._registry.collect():
            values: _Values = {}
            both = _WORST.get(metric.name, add)
            _add(values, [(sample.name, sample.labels, sample.value) for sample in metric.samples], both)
            for key, value in self._gone.get(metric.name, {}).items():
                values[key] = values.get(key, 0.0) + value
            for metrics in self._others.values():
                _, samples = metrics.get(metric.name, ("", ()))
                _add(values, samples, both)
            summed = Metric(metric.name, metric.documentation, metric.type)
            for (name, labels), value in values.items():
                summed.add_sample(name, dict(labels), value)
            yield summed


def _add(values: _Values, samples: Sequence[Any], both: Callable[[float, float], float] = add) -> None:
    for name, labels, value in samples:
        key = (name, tuple(labels.items()))
        values[key] = both(values[key], value) if key in values else value
