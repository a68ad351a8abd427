"""
Tells in the log once that something fails, however often it is tried, and once that it works again.
"""

from attrs import define
from prometheus_client import Counter
from twisted.logger import Logger


@define
class FailureLog:
    """
    Keeps in mind whether something that is written again and again could not be written the last time.

    @ivar what: what is written, with its article: 'the journal'.
    @ivar counter: counts every failure.
    """

    log: Logger
    what: str
    counter: Counter
    is_failing: bool = False

    def failed(self, why: str) -> None:
        """Count a failure, and log it if it is the first one."""
        self.counter.inc()
        if not self.is_failing:
            self.is_failing = True
            self.log.error(self.what + " can't be written: {why}", why=why)

    def recovered(self) -> None:
        """Note that it was written, and log that if it had failed before."""
        if self.is_failing:
            self.is_failing = False
            self.log.info(self.what + " is written again")
