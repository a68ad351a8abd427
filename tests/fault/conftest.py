"""What tests of faults share."""

from collections.abc import Iterator

import pytest

from tests.support.rounds import Rounds


@pytest.fixture
def rounds(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[Rounds]:
    """Rounds of a test; in the end what they found is printed."""
    found = Rounds.by_environment(request.node.name.removeprefix("test_").replace("_", " "))
    yield found
    with capsys.disabled():
        print(f"\n{found}")
