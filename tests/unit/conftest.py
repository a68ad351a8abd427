"""What all unit tests share."""

from typing import Final

import pytest
from prometheus_client import Gauge

from collectord import metrics

_GAUGES: Final = [each.metric for each in metrics.declared() if isinstance(each.metric, Gauge) and not each.labels]


@pytest.fixture(autouse=True)
def gauges_at_zero() -> None:
    """The gauges of this process are as in one that has just begun, whatever the test before has left in them."""
    for gauge in _GAUGES:
        gauge.set(0)
