"""
What is logged as a failure fails the test, unless the test clears it away.
"""

from collections.abc import Iterator

import pytest

from tests.unit.intake.parts import LogRecorder, recorded_log


@pytest.fixture(autouse=True)
def log() -> Iterator[LogRecorder]:
    """What is logged."""
    with recorded_log() as recorder:
        yield recorder
    assert recorder.failures == []
