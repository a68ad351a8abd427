"""
The disk pressure of a process: what its collector leaves out, shown by the metrics.
"""

from collections.abc import Mapping
from functools import partial

from prometheus_client import Metric

from collectord.metrics import DISK_PRESSURE
from collectord.pressure import IN_WORDS, Pressure, PressureLevel
from collectord.storage.chain.chain import FallbackCrashStorage

_LEFT_OUT = {"attachments": PressureLevel.NO_ATTACHMENTS, "equal crashes": PressureLevel.FIRST_ONLY}


def watched_pressure(stores: FallbackCrashStorage) -> Pressure:
    """Make what tells a collector how full the stores are; the metrics show it."""
    pressure = Pressure(lambda: stores.pressure.level)
    for left_out, level in _LEFT_OUT.items():
        DISK_PRESSURE.labels(left_out).set_function(partial(_has_reached, pressure, level))
    return pressure


def _has_reached(pressure: Pressure, level: PressureLevel) -> bool:
    return pressure.level >= level


def pressure_in(families: Mapping[str, Metric]) -> str:
    """Say what is left out by the metrics of all processes; empty if nothing is."""
    shown = {sample.labels["left_out"] for sample in families["collectord_disk_pressure"].samples if sample.value > 0}
    return IN_WORDS[max((_LEFT_OUT[left_out] for left_out in shown), default=PressureLevel.NONE)]
