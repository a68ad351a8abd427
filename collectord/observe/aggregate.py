"""
The metrics of several processes as one: each sends what it has counted, and the sums are shown.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

Snapshot = Sequence[Any]
"""JSON: of each metric its name, its type, and its samples: name, labels, value."""

_Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""By the name of the sample and its labels."""

_CUMULATIVE = frozenset({"counter", "histogram"})


def snapshot(registry: CollectorRegistry) -> Snapshot:
    """What a process has counted so far."""
    return [
        [metric.name, metric.type, [[sample.name, dict(sample.labels), sample.value] for sample in metric.samples]]
        for metric in registry.collect()
    ]


class AggregatedRegistry(Collector):
    """
    The metrics of this process and of others.

    What a process has counted stays when it is gone; what it had at that time (a gauge) does not.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._others: dict[object, dict[str, tuple[str, Sequence[Any]]]] = {}  # types and samples, by metric
        self._gone: dict[str, _Values] = {}

    def update(self, process: object, metrics: Snapshot) -> None:
        """What C{process} has counted so far."""
        self._others[process] = {name: (kind, samples) for name, kind, samples in metrics}

    def forget(self, process: object) -> None:
        """It is gone."""
        for name, (kind, samples) in self._others.pop(process, {}).items():
            if kind in _CUMULATIVE:
                _add(self._gone.setdefault(name, {}), samples)

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            values: _Values = {}
            _add(values, [(sample.name, sample.labels, sample.value) for sample in metric.samples])
            for key, value in self._gone.get(metric.name, {}).items():
                values[key] = values.get(key, 0.0) + value
            for metrics in self._others.values():
                _, samples = metrics.get(metric.name, ("", ()))
                _add(values, samples)
            summed = Metric(metric.name, metric.documentation, metric.type)
            for (name, labels), value in values.items():
                summed.add_sample(name, dict(labels), value)
            yield summed


def _add(values: _Values, samples: Sequence[Any]) -> None:
    for name, labels, value in samples:
        key = (name, tuple(labels.items()))
        values[key] = values.get(key, 0.0) + value
