"""
The disk pressure of a chain: that of the store with the most room, and when it is told.
"""

from collections.abc import Callable

import pytest

from collectord.pressure import PressureLevel, RoomGauge
from tests.unit.storage.chain.fickle import Chain, full
from tests.unit.storage.stores import started

NONE, NO_ATTACHMENTS, FIRST_ONLY = PressureLevel


@pytest.fixture
def free(chain: Chain) -> dict[str, int | None]:
    """How much is free in each store, by its name; the test changes it."""
    found: dict[str, int | None] = {}
    for backend in chain.storage.backends:
        backend.room = RoomGauge(low=1000, full=200)
        found[backend.name] = 5000

        async def quick_check(name: str = backend.name) -> int | None:
            return found[name]

        backend.quick_check = quick_check
    return found


def probe(chain: Chain) -> PressureLevel:
    for backend in chain.storage.backends:
        started(chain.storage.probe_backend(backend, 0))
    return chain.storage.pressure.level


def test_a_store_with_room_takes_the_pressure_off_all(
    chain: Chain, free: dict[str, int | None], reported: Callable[[], list[str]]
) -> None:
    first, second, third = free
    free[first] = free[second] = 300
    assert probe(chain) is NONE
    free[third] = 800
    assert probe(chain) is NO_ATTACHMENTS
    free[third] = 300
    assert probe(chain) is FIRST_ONLY
    assert probe(chain) is FIRST_ONLY
    free[second] = 5000
    assert probe(chain) is NONE
    told = [line for line in reported() if "pressure" in line.lower()]
    assert [line.partition(":")[0] for line in told] == ["DISK PRESSURE", "DISK PRESSURE", "disk pressure falls"]


def test_a_store_that_takes_no_crashes_does_not_count(chain: Chain, free: dict[str, int | None]) -> None:
    first, second, _ = free
    free[first] = free[second] = 300
    assert probe(chain) is NONE
    chain.third.trouble = {"check": full()}
    started(chain.storage.probe_backend(chain.storage.backends[2], 9))
    assert chain.storage.pressure.level is FIRST_ONLY
    chain.trouble(check=full())
    started(chain.storage.check_each())
    assert chain.storage.pressure.level is NONE  # they are answered 503 now


def test_a_whole_check_tells_it_too(chain: Chain, free: dict[str, int | None]) -> None:
    started(chain.storage.check_each())  # 7 bytes are free, by that
    assert chain.storage.pressure.level is FIRST_ONLY
