"""
A circuit breaker: after some failures in a row a store is not used until a probe finds it healthy again.
"""

from attrs import define

TRIES = 3
"""The number of failures in a row that open a breaker."""


@define
class Breaker:
    """
    A breaker counts the failures of one store, and says whether it is to be used.

    @ivar open: the store has failed, and is not to be used for now.
    """

    open: bool = False
    _failures: int = 0

    def failed(self, *, fatal: bool = False) -> bool:
        """
        Note that the store has failed.

        @param fatal: whether this one failure is enough to open the breaker.

        @return: whether this has opened the breaker.
        """
        self._failures += 1
        opens = not self.open and (fatal or self._failures >= TRIES)
        self.open = self.open or opens
        return opens

    def succeeded(self) -> bool:
        """
        Note that the store has done what it was asked to.

        @return: whether this has closed the breaker.
        """
        closes, self.open = self.open, False
        self._failures = 0
        return closes
