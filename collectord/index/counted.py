"""
What was counted, and is remembered over restarts: what came in, and the last 24 hours of all else.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Protocol

from attrs import frozen
from twisted.logger import Logger

from collectord.concurrency.threadpool import ThreadRunner
from collectord.index.day import CountedNow, DayCounts, DayRecorder
from collectord.index.history import IntakeRecorder, load_history, save_history
from collectord.index.intake import IntakeCounts, IntakeHistory, Span


@frozen(kw_only=True)
class CountedSoFar:
    """
    What all processes have counted.

    @ivar intake: what has come in since the daemon started.
    @ivar rest: all else of which the last 24 hours are shown.
    """

    intake: IntakeCounts
    rest: CountedNow


class _Recorder(Protocol):
    def to_json(self) -> str: ...

    def read_json(self, text: str) -> None: ...


class CountMemory:
    """
    Remembers what is counted, in two small files.

    @param directory: where they are.
    @param counted: returns what was counted.
    @param in_thread: where they are read and written.
    @param now: returns the time in seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self, directory: str, counted: Callable[[], CountedSoFar], in_thread: ThreadRunner, now: Callable[[], float]
    ) -> None:
        self._counted = counted
        self._in_thread = in_thread
        self._now = now
        self._intake = IntakeRecorder()
        self._day = DayRecorder()
        self._files: dict[str, _Recorder] = {
            os.path.join(directory, "history.json"): self._intake,
            os.path.join(directory, "day.json"): self._day,
        }

    def note(self) -> None:
        """Add what was counted since this was called last; call it every few seconds."""
        counted, now = self._counted(), self._now()
        self._intake.note(now, counted.intake)
        self._day.note(now, counted.rest)

    def history(self, span: Span) -> IntakeHistory:
        """As L{Index.history<collectord.index.asking.Index.history>}."""
        return self._intake.history(span, self._now())

    def day(self) -> DayCounts:
        """As L{Index.day<collectord.index.asking.Index.day>}."""
        return self._day.day(self._now())

    async def load(self) -> None:
        """Remember what another process has saved. What can't be read is forgotten."""
        for path, recorder in self._files.items():
            try:
                text = await self._in_thread(partial(load_history, path))
                if text is not None:
                    recorder.read_json(text)
            except (OSError, ValueError) as e:
                self._log.warn("what was counted before is forgotten: {path}: {why}", path=path, why=str(e))

    async def save(self) -> None:
        """
        Write both files.

        @raise OSError: one of them is as it was.
        """
        for path, recorder in self._files.items():
            text = recorder.to_json()
            await self._in_thread(partial(save_history, path, text))
