"""
Remembers what came in: over ten minutes, a day and a month, also after a restart.
"""

import json
import os
from collections import deque
from operator import add, sub

from attrs import astuple, define

from collectord.index.intake import SLOTS, IntakeCounts, IntakeHistory, IntakeSlot, Span

_NOW_S = 10.0
_LONGEST_S = 60.0
"""Between counts that are further apart the machine stood still, or the clock was set: what came in counts as now."""

_NOTHING = (0.0,) * len(astuple(IntakeCounts()))
_Amounts = tuple[float, ...]
"""The fields of L{IntakeCounts}."""


@define
class _Slot:
    seconds: float = 0.0
    amounts: _Amounts = _NOTHING


class IntakeRecorder:
    """
    Divides what is counted among slots of time. None of it blocks.

    @ivar slots: by span and by their number since the epoch.
    """

    def __init__(self) -> None:
        self._slots: dict[Span, dict[int, _Slot]] = {span: {} for span in SLOTS}
        self._last: deque[tuple[float, _Amounts]] = deque(maxlen=4)

    def note(self, now: float, totals: IntakeCounts) -> None:
        """
        Take what was counted since the daemon started; call this every few seconds.

        @param now: in seconds since the epoch.
        """
        amounts = astuple(totals)
        if self._last and now > self._last[-1][0]:
            before, counted = self._last[-1]
            came = tuple(max(0.0, amount) for amount in map(sub, amounts, counted))
            for span, (count, step) in SLOTS.items():
                self._divide(self._slots[span], step, max(before, now - _LONGEST_S), now, came)
                oldest = int(now // step) - count
                for number in [number for number in self._slots[span] if number <= oldest]:
                    del self._slots[span][number]
        self._last.append((now, amounts))

    def _divide(self, slots: dict[int, _Slot], step: int, since: float, until: float, came: _Amounts) -> None:
        for number in range(int(since // step), int(until // step) + 1):
            seconds = min(until, (number + 1) * step) - max(since, number * step)
            if seconds > 0:
                slot = slots.setdefault(number, _Slot())
                slot.seconds += seconds
                part = seconds / (until - since)
                slot.amounts = tuple(map(add, slot.amounts, (amount * part for amount in came)))

    def history(self, span: Span, now: float) -> IntakeHistory:
        """Return what came in over a span that ends at C{now}."""
        count, step = SLOTS[span]
        first = int(now // step) - count + 1
        slots = [self._slot(span, step, number) for number in range(first, first + count)]
        known = [slot for slot in slots if slot is not None]
        sums = sum((slot.counts for slot in known), IntakeCounts())
        rates = [astuple(slot.rates) for slot in known if slot.seconds]
        return IntakeHistory(
            span=span,
            began=float(first * step),
            step_s=step,
            slots=slots,
            now=self._present(),
            mean=sums.over(sum(slot.seconds for slot in known) or 1.0),
            most=IntakeCounts(*map(max, zip(*rates, strict=True))) if rates else IntakeCounts(),
            sums=sums,
        )

    def _slot(self, span: Span, step: int, number: int) -> IntakeSlot | None:
        slot = self._slots[span].get(number)
        if slot is None:
            return None
        return IntakeSlot(at=float(number * step), seconds=slot.seconds, counts=IntakeCounts(*slot.amounts))

    def _present(self) -> IntakeCounts:
        if len(self._last) < 2:
            return IntakeCounts()
        (until, amounts) = self._last[-1]
        since, before = next(each for each in self._last if each[0] >= until - _NOW_S or each is self._last[-2])
        came = (max(0.0, amount) for amount in map(sub, amounts, before))
        return IntakeCounts(*came).over(max(until - since, 1.0))

    def to_json(self) -> str:
        """Return all that is remembered, to be written to a file."""
        return json.dumps(
            {
                span: [[number, round(slot.seconds, 3), *map(_rounded, slot.amounts)] for number, slot in slots.items()]
                for span, slots in self._slots.items()
            }
        )

    def read_json(self, text: str) -> None:
        """
        Remember what L{to_json} has returned, in another process.

        @raise ValueError: it can't be read, and nothing is remembered.
        """
        try:
            read = {span: _read(json.loads(text)[span]) for span in SLOTS}
        except (LookupError, TypeError) as e:
            raise ValueError(str(e)) from e
        self._slots = read


def _rounded(amount: float) -> float:
    return round(amount, 2)


def _read(rows: list[list[float]]) -> dict[int, _Slot]:
    slots = {}
    for number, seconds, *amounts in rows:
        if len(amounts) != len(_NOTHING):
            raise ValueError("not as many numbers as there are")
        slots[int(number)] = _Slot(float(seconds), tuple(map(float, amounts)))
    return slots


def load_history(path: str) -> str | None:
    """
    Read the file of a history; None if there is none. It blocks.

    @raise OSError: it can't be read.
    @raise ValueError: it is no text.
    """
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return None


def save_history(path: str, text: str) -> None:
    """
    Replace the file of a history. It blocks.

    @raise OSError: the file is as it was.
    """
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    new = f"{path}.tmp"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="ascii") as file:
        file.write(text)
    os.replace(new, path)
