"""
What is logged as a failure fails the test, unless the test clears it away.
"""

from collections.abc import Iterator

import pytest

from tests.unit.intake.parts import LogRecorder, recorded_log
from tests.unit.intake.rig import NewRig, Rig, make_rig


@pytest.fixture(autouse=True)
def log() -> Iterator[LogRecorder]:
    """What is logged."""
    with recorded_log() as recorder:
        yield recorder
    assert recorder.failures == []


@pytest.fixture
def new_rig() -> Iterator[NewRig]:
    rigs = []

    def new(**settings: float) -> Rig:
        rigs.append(make_rig(**settings))
        return rigs[-1]

    yield new
    for rig in rigs:
        rig.server.stop()


@pytest.fixture
def rig(new_rig: NewRig) -> Rig:
    return new_rig()
