"""
Where crashes go: a destination or a publisher, with a time limit, and pauses that grow while it fails.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from collectord.concurrency.timeouts import SingleFlight, with_timeout
from collectord.errors import CrashRejectedByStore, PublishError, StorageError
from collectord.metrics import MOVE_BYTES, MOVE_SECONDS, PUBLISH_SECONDS, SINK_FAILURES, SINK_HEALTHY
from collectord.model import Crash
from collectord.settings.urls import without_secrets

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
_JITTER = 0.25

SinkKind = Literal["moved", "published"]
"""What becomes of a crash that is given to a sink."""

SinkError = (StorageError, PublishError)
"""What a sink raises."""


def backoff_delay(
    failures: int, chance: float, first: float = FIRST_PAUSE_S, longest: float = LONGEST_PAUSE_S
) -> float:
    """
    Seconds to wait after so many failures in a row: twice as many each time, give or take a quarter.

    @param chance: from 0 to 1.
    """
    return min(longest, first * 2.0 ** min(failures - 1, 30)) * (1 + _JITTER * (2 * chance - 1))


class Sink:
    """
    One destination or publisher.

    @param deliver: gives it a crash; returns once it confirmed it.
    @param check: tries whether it could take one.
    @param verify: check it before the first crash.
    @ivar cautions: what it can't promise, as far as it knows by now.
    @ivar problem: why it did not take the last one; empty: it did.
    @ivar delivered: crashes that it confirmed.
    @ivar failed: times that it did not.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        kind: SinkKind,
        deliver: Callable[[Crash], Awaitable[object]],
        check: Callable[[], Awaitable[object]],
        *,
        timeout: float,
        verify: bool,
        clock: IReactorTime,
        chance: Callable[[], float],
        cautions: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.name = name
        self.kind: SinkKind = kind
        self.cautions = cautions
        self.problem = ""
        self.delivered = self.failed = 0
        self._deliver = deliver
        self._check = check
        self._timeout = timeout
        self._clock = clock
        self._chance = chance
        self._unchecked = verify
        self._verify = SingleFlight(self._try_out)
        self._failures = 0
        self._resume_at = 0.0
        SINK_FAILURES.labels(name)  # a series that begins with 1 shows no increase

    async def deliver(self, crash: Crash) -> None:
        """
        Give it C{crash}.

        @raise SinkError: it did not confirm it, and is left alone for a while; but not where it is a
            L{CrashRejectedByStore}.
        """
        began = self._clock.seconds()
        try:
            await with_timeout(self._deliver(crash), self._timeout, self._clock, self.name)
        except (CrashRejectedByStore, CancelledError):
            raise
        except SinkError as e:
            self._failed(e)
            raise
        except Exception as e:  # a defect; with this crash, as far as anyone knows
            self._log.failure("{sink} has a defect", sink=self.name)
            raise CrashRejectedByStore(f"{self.name}: {type(e).__name__}: {e}") from e
        seconds = self._clock.seconds() - began
        if self.kind == "moved":
            MOVE_SECONDS.labels(self.name).observe(seconds)
            MOVE_BYTES.labels(self.name).observe(sum(dump.size for dump in crash.dumps))
        else:
            PUBLISH_SECONDS.labels(self.name).observe(seconds)
        self.delivered += 1
        self._set_healthy()
        if self._failures:
            self._log.info("{sink} takes crashes again", sink=self.name)
        self._failures = 0

    def _set_healthy(self) -> None:
        self.problem = ""
        SINK_HEALTHY.labels(self.name).set(1)

    @property
    def resumes_in(self) -> float:
        """Seconds that it is left alone for."""
        return max(0.0, self._resume_at - self._clock.seconds())

    async def try_out(self) -> None:
        """Check it now, so that what is wrong is told at the start."""
        if self._unchecked:
            await self._verify()

    async def ready(self) -> None:
        """Return when it is worth a try, however long that takes."""
        while True:
            wait = self._resume_at - self._clock.seconds()
            if wait > 0:
                await deferLater(self._clock, wait)
            elif not self._unchecked:
                return
            else:
                await self._verify()

    async def _try_out(self) -> None:
        try:
            await with_timeout(self._check(), self._timeout, self._clock, self.name)
            self._unchecked = False
            self._set_healthy()
            self._log.info("{sink} is ready", sink=self.name)
        except CancelledError:
            raise
        except Exception as e:
            if not isinstance(e, SinkError):
                self._log.failure("{sink} has a defect", sink=self.name)
            self._failed(e)

    def _failed(self, error: Exception) -> None:
        self._unchecked = True
        why = self.problem = without_secrets(str(error))
        self.failed += 1
        SINK_FAILURES.labels(self.name).inc()
        SINK_HEALTHY.labels(self.name).set(0)
        if self._resume_at > self._clock.seconds():
            return  # of many that were under way, one counts
        self._failures += 1
        pause = backoff_delay(self._failures, self._chance())
        self._resume_at = self._clock.seconds() + pause
        self._log.error("{sink} is left alone for {pause:.1f} s: {why}", sink=self.name, pause=pause, why=why)
