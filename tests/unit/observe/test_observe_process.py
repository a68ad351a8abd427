from twisted.internet.task import Clock

from collectord.metrics import REGISTRY
from collectord.observe.process import INTERVAL_S, ProcessMetrics


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None
    return found


def lag_of(work: str) -> tuple[float, float]:
    """How late its calls were, all together, and how many there were."""
    name = "collectord_reactor_lag_seconds"
    return value(f"{name}_sum", work=work), value(f"{name}_count", work=work)


def test_the_metrics_about_the_process() -> None:
    clock = Clock()
    watch = ProcessMetrics(clock)
    lag, count = lag_of("receive")
    cpu = value("collectord_cpu_seconds_total")
    watch.startService()
    clock.advance(INTERVAL_S)
    assert lag_of("receive") == (lag, count + 1)
    clock.advance(INTERVAL_S + 2)
    assert lag_of("receive") == (lag + 2, count + 2)
    assert value("collectord_cpu_seconds_total") > cpu
    assert value("collectord_resident_memory_bytes") > 1_000_000
    watch.stopService()
    assert clock.getDelayedCalls() == []


def test_a_process_that_only_moves_crashes_makes_no_client_wait() -> None:
    clock = Clock()
    watch = ProcessMetrics(clock, only_moves=True)
    ProcessMetrics(clock)
    (lag, count), others = lag_of("move"), lag_of("receive")
    watch.startService()
    clock.advance(INTERVAL_S + 2)
    assert (lag_of("move"), lag_of("receive")) == ((lag + 2, count + 1), others)
    watch.stopService()
