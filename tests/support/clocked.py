"""
The real reactor with a time of its own: sockets work, and time limits pass when the test says so.
"""

from typing import Any

from twisted.internet.task import Clock
from zope.interface import directlyProvides, providedBy


class ClockedReactor(Clock):
    """
    What connects by this reactor connects by the real one.

    @param reactor: the real one.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
