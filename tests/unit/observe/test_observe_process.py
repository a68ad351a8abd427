from twisted.internet.task import Clock

from collectord.metrics import REGISTRY
from collectord.observe.process import INTERVAL_S, ProcessMetrics


def value(name: str) -> float:
    found = REGISTRY.get_sample_value(name)
    assert found is not None
    return found


def test_the_metrics_about_the_process() -> None:
    clock = Clock()
    watch = ProcessMetrics(clock)
    lag, count = value("collectord_reactor_lag_seconds_sum"), value("collectord_reactor_lag_seconds_count")
    cpu = value("collectord_cpu_seconds_total")
    watch.startService()
    clock.advance(INTERVAL_S)
    assert value("collectord_reactor_lag_seconds_sum") == lag
    clock.advance(INTERVAL_S + 2)
    assert value("collectord_reactor_lag_seconds_sum") == lag + 2
    assert value("collectord_reactor_lag_seconds_count") == count + 2
    assert value("collectord_cpu_seconds_total") > cpu
    assert value("collectord_resident_memory_bytes") > 1_000_000
    watch.stopService()
    assert clock.getDelayedCalls() == []
