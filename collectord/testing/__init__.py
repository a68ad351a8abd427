"""
The tests that every destination and every publisher has to pass, ours and those of plugins.

docs/plugins.rst shows how to use them. They need C{pytest} and C{pytest-twisted}. Each test runs in the reactor, with
real threads.
"""

from collectord.testing.crashes import make_crash
from collectord.testing.destinations import Destination, DestinationContract, Kept
from collectord.testing.publishers import Publisher, PublisherContract

__all__ = ["Destination", "DestinationContract", "Kept", "Publisher", "PublisherContract", "make_crash"]
