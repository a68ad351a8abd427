import pytest

from tests.unit.storage.chain.fickle import Chain


@pytest.fixture
def chain() -> Chain:
    return Chain()
