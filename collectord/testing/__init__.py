"""
The tests that every destination and every publisher has to pass, ours and those of plugins.

A destination is tested like this::

    class TestMine(DestinationContract):
        @pytest.fixture
        def destination(self, tmp_path):
            async def kept(crash_id):  # what a reader of the destination sees
                return Kept(raw_crash=..., dumps={...}) if ... else None

            return Destination(make=..., kept=kept, unreachable=...)

They need C{pytest} and C{pytest-twisted}. Each test runs in the reactor, with real threads.
"""

from collectord.testing.crashes import make_crash
from collectord.testing.destinations import Destination, DestinationContract, Kept
from collectord.testing.publishers import Publisher, PublisherContract

__all__ = ["Destination", "DestinationContract", "Kept", "Publisher", "PublisherContract", "make_crash"]
