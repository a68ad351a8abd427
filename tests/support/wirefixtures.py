"""
Fixtures of the tests that speak to a server on loopback.
"""

from collections.abc import Iterator

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred

from tests.support.clocked import ClockedReactor
from tests.support.httpwire import WireServer


@pytest.fixture
def server() -> Iterator[WireServer]:
    """A server that listens, and has no answers yet."""
    from twisted.internet import reactor

    made = WireServer()
    made.listen(reactor)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@pytest.fixture
def clocked() -> ClockedReactor:
    """The real reactor, with a clock that the test moves."""
    from twisted.internet import reactor

    return ClockedReactor(reactor)
