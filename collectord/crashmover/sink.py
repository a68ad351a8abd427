"""
A sink is a destination or a publisher as the crashmover uses it: with a time limit, and with pauses that grow while it
fails.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from collectord.concurrency.backoff import backoff_delay
from collectord.concurrency.sharing import SingleFlight
from collectord.concurrency.timeouts import with_timeout
from collectord.crashmover.answering import NOTIFY_S, AnswerWatch
from collectord.errors import CrashGone, CrashRejectedByStore, IdRefused, PublishError, StorageError, TimedOut
from collectord.metrics import MOVE_BYTES, MOVE_SECONDS, PUBLISH_SECONDS, SINK_FAILURES, series
from collectord.model import Crash
from collectord.settings.urls import without_secrets

FIRST_PAUSE_S = 1.0
"""Seconds before something that has failed once is tried again. The pause doubles with each further failure."""
LONGEST_PAUSE_S = 60.0
_SLOW_S = 5.0
"""A delivery that fails after so many seconds was not refused. Perhaps too many share a slow link."""
_ANY = 1000.0
"""More crashes at the same time than the settings allow."""

SinkKind = Literal["moved", "published"]
"""What a crash is once the sink has confirmed it: a destination makes it moved, a publisher makes it published."""

SinkError = (StorageError, PublishError)
"""The exceptions that a sink raises."""


class Sink:
    """
    A sink delivers crashes to one destination or publisher, and does not use it for a while after it has failed.

    All of it runs on the reactor thread.

    @param deliver: saves or publishes a crash, and returns once that is confirmed.
    @param check: tries whether a crash could be delivered.
    @param timeout: seconds that a delivery or a check may take.
    @param verify: run C{check} before the first crash is delivered, and after a failure; False: never, since it may ask
        for more than deliveries are allowed to do. Then the next crash tries the sink out.
    @param chance: returns a random number from 0 to 1.
    @ivar place_of: returns where a crash lies at the destination, or in which queue its id is; empty: nobody knows, or
        where all of them are.
    @ivar cautions: what the destination can't promise, in sentences, as far as that is known by now.
    @ivar problem: why the last delivery or check failed, or empty if it did not.
    @ivar delivered: how many crashes were confirmed.
    @ivar failed: how often a delivery or check has failed.
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
        place_of: Callable[[Crash], str] = lambda crash: "",
    ) -> None:
        self.name = name
        self.place_of = place_of
        self.kind: SinkKind = kind
        self.cautions = cautions
        self.problem = ""
        self.delivered = self.failed = 0
        self._deliver = deliver
        self._check = check
        self._timeout = timeout
        self._clock = clock
        self._chance = chance
        self._is_checked = self._unchecked = verify
        self._verify = SingleFlight(self._try_out)
        self._failures = 0
        self._is_known = False
        self._resume_at = 0.0
        self._at_once = _ANY
        self._answers = AnswerWatch(check if verify else _no_check, self._seems_away, clock)
        SINK_FAILURES.labels(name)  # begin the series with 0: Prometheus sees no increase in one that begins with 1

    @property
    def is_available(self) -> bool:
        """Whether a crash can be delivered now, as far as is known."""
        return not self._unchecked and self._resume_at <= self._clock.seconds()

    @property
    def is_tried(self) -> bool:
        """
        Whether it is known by trying how the sink is now.

        If it has failed and is not to be checked, that is so until the pause is over. Then only the next crash tries
        it, and another process may get that.
        """
        may_have_changed = self.problem and not self._is_checked and not self.resumes_in and not self._answers.under_way
        return self._is_known and not may_have_changed

    @property
    def at_once(self) -> int:
        """How many crashes may be delivered at the same time: fewer after some that were not confirmed in time."""
        return int(self._at_once)

    async def deliver(
        self, crash: Crash, is_gone: Callable[[], Awaitable[bool]] | None = None, longest: float | None = None
    ) -> float:
        """
        Deliver C{crash}, and return once that is confirmed.

        @param is_gone: tells whether somebody else has removed the crash meanwhile, which is no fault of the sink.
        @param longest: seconds that this may take, if they are fewer than the time limit.

        @return: how many seconds it took.
        @raise SinkError: it was not confirmed. After any error but L{CrashRejectedByStore} and L{IdRefused}, which are
            about this one crash, L{ready} returns only after a pause.
        @raise CrashGone: it was not confirmed, and is gone.
        """
        began = self._clock.seconds()
        limit = self._timeout if longest is None else min(longest, self._timeout)
        self._answers.asked()
        try:
            await with_timeout(self._deliver(crash), limit, self._clock, self.name)
        except (CrashRejectedByStore, CancelledError):
            raise
        except IdRefused:  # that is an answer, and the next id may be taken
            self._answers.answered()
            self.failed += 1
            SINK_FAILURES.labels(self.name).inc()
            raise
        except SinkError as e:
            if is_gone is not None and await is_gone():
                raise CrashGone(f"{crash.crash_id}: another process has removed it") from e
            self._failed(e, slow=self._clock.seconds() - began >= _SLOW_S)
            raise
        except Exception as e:  # a bug in a plugin; other crashes may not meet it, so they are still tried
            self._log.failure("{sink} raised an unexpected error", sink=self.name)
            raise CrashRejectedByStore(f"{self.name}: {type(e).__name__}: {e}") from e
        finally:
            self._answers.over()
        self._answers.answered()
        seconds = self._clock.seconds() - began
        if self.kind == "moved":
            series(MOVE_SECONDS, self.name).observe(seconds)
            series(MOVE_BYTES, self.name).observe(sum(dump.size for dump in crash.dumps))
        else:
            series(PUBLISH_SECONDS, self.name).observe(seconds)
        self.delivered += 1
        self._set_healthy()
        self._at_once = min(_ANY, self._at_once + 1 / self._at_once)
        if self._failures:
            self._log.info("{sink} takes crashes again", sink=self.name)
        self._failures = 0
        return seconds

    def _set_healthy(self) -> None:
        self.problem = ""
        self._is_known = True

    @property
    def resumes_in(self) -> float:
        """The seconds until the sink is tried again after a failure, or 0."""
        return max(0.0, self._resume_at - self._clock.seconds())

    async def try_out(self) -> None:
        """
        Check the sink, if it has not been used yet, so that the log says at the start what is wrong.

        This returns after a few seconds, even if it does not answer.
        """
        if self._unchecked and not self._failures and not self.problem:
            with suppress(TimedOut):
                await with_timeout(self._verify(), NOTIFY_S, self._clock, self.name)

    async def try_again(self) -> None:
        """Check the sink if it has failed and the pause after that is over."""
        if self._unchecked and self._failures and not self.resumes_in:
            await self._verify()

    async def ready(self) -> None:
        """Return once the pause after a failure is over and a check has succeeded, however long that takes."""
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
            await with_timeout(self._answers.watched(self._check()), self._timeout, self._clock, self.name)
            self._unchecked = False
            self._set_healthy()
            self._log.info("{sink} is ready", sink=self.name)
        except CancelledError:
            raise
        except Exception as e:
            if not isinstance(e, SinkError):
                self._log.failure("{sink} raised an unexpected error", sink=self.name)
            self._failed(e, slow=False)

    def _seems_away(self, why: str) -> None:
        """Say that the sink seems to be away, though nothing has failed yet."""
        self.problem = self._without_name(why)
        self._is_known = True
        self._log.error("{sink} does not answer: {why}", sink=self.name, why=self.problem)

    def _without_name(self, why: str) -> str:
        """Return C{why} as it is shown beside the name of the sink: without it, and without secrets."""
        return without_secrets(why).removeprefix(f"{self.name}: ")

    def _failed(self, error: Exception, *, slow: bool) -> None:
        self._unchecked = self._is_checked
        why = self.problem = self._without_name(str(error))
        self.failed += 1
        SINK_FAILURES.labels(self.name).inc()
        self._is_known = True
        if self._resume_at > self._clock.seconds():
            return  # of many deliveries that were under way together and failed together, only the first counts
        if slow:
            self._at_once = max(1.0, min(self._at_once, self._answers.under_way) / 2)
        self._failures += 1
        pause = backoff_delay(self._failures, first=FIRST_PAUSE_S, longest=LONGEST_PAUSE_S, chance=self._chance())
        self._resume_at = self._clock.seconds() + pause
        self._log.error("{sink} failed; trying again in {pause:.1f} s: {why}", sink=self.name, pause=pause, why=why)


async def _no_check() -> None:
    """Stand in for the check of a sink that is not to be checked."""
