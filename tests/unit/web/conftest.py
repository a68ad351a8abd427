"""
What is logged as a failure fails the test, unless the test clears it away.
"""

from collections.abc import Iterator

import pytest

from collectord.dialects.load import SUBMIT
from collectord.dialects.row import Dialect
from tests.unit.intake.conftest import log
from tests.unit.web.publicsite import NewRig, Rig, make_rig

__all__ = ["log"]


@pytest.fixture
def new_rig() -> Iterator[NewRig]:
    rigs: list[Rig] = []

    def new(*rows: Dialect) -> Rig:
        rigs.append(make_rig(*(rows or [SUBMIT])))
        return rigs[-1]

    yield new
    for rig in rigs:
        rig.server.stop()
        assert (rig.budget.used, rig.budget.flushing) == (0, 0)


@pytest.fixture
def rig(new_rig: NewRig) -> Rig:
    return new_rig()
