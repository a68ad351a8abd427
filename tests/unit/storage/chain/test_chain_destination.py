"""
A destination that is a chain of others: what is said of a crash that none of them takes.
"""

import pytest

from collectord.errors import AllStoresFailed, CrashRejectedByStore, StorageError, UnclearRefusal
from collectord.storage.chain.destination import FallbackOfDestinations
from tests.unit.storage.chain.fickle import Chain, error_in, full
from tests.unit.storage.stores import make_crash, started

REJECTED = CrashRejectedByStore("answered 413")
UNCLEAR = UnclearRefusal("answered 403")


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        pytest.param([REJECTED] * 3, REJECTED, id="all reject it"),
        pytest.param([REJECTED, UNCLEAR, REJECTED], UNCLEAR, id="one may be at fault"),
        pytest.param([REJECTED, full(), UNCLEAR], None, id="one fails"),
    ],
)
def test_a_crash_that_none_takes(chain: Chain, errors: list[StorageError], raised: StorageError | None) -> None:
    destination = FallbackOfDestinations(chain.storage.backends, chain.clock)
    for store, error in zip(chain.stores, errors, strict=True):
        store.trouble = {"save": error}
    found = error_in(started(destination.save(make_crash())))
    assert type(found) is AllStoresFailed if raised is None else found is raised
    assert chain.calls == [["save"]] * 3


def test_one_that_is_not_asked_has_not_refused(chain: Chain) -> None:
    chain.trouble(save=REJECTED)
    chain.storage.backends[1].breaker.failed(fatal=True)
    error = error_in(started(FallbackOfDestinations(chain.storage.backends, chain.clock).save(make_crash())))
    assert type(error) is AllStoresFailed


def test_the_next_takes_what_one_refuses(chain: Chain) -> None:
    chain.first.trouble = {"save": REJECTED}
    saved = started(FallbackOfDestinations(chain.storage.backends, chain.clock).save(make_crash()))
    assert saved.result == "second"
