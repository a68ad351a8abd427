"""
The circuit breaker of a store: after some failures in a row the store is not tried until a probe finds it healthy.
"""

from attrs import define

TRIES = 3


@define
class Breaker:
    """
    @ivar open: the store is not to be tried.
    """

    open: bool = False
    _failures: int = 0

    def failed(self, *, fatal: bool = False) -> bool:
        """
        The store failed; C{fatal} where one such failure is enough.

        @return: this opened the breaker.
        """
        self._failures += 1
        opens = not self.open and (fatal or self._failures >= TRIES)
        self.open = self.open or opens
        return opens

    def succeeded(self) -> bool:
        """
        The store did what it should.

        @return: this closed the breaker.
        """
        closes, self.open = self.open, False
        self._failures = 0
        return closes
