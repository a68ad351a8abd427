"""
What a limit of time for blocking work promises.
"""

import threading

import pytest

from collectord.concurrency.waiting import LimitedWait
from tests.support.wait import until


def test_work_that_ends_in_time() -> None:
    in_time = LimitedWait(60.0)
    assert in_time(lambda: 7, "it") == 7
    with pytest.raises(ValueError, match="from within"):
        in_time(lambda: fail(ValueError("from within")), "it")


def fail(error: Exception) -> None:
    raise error


def test_an_error_that_says_it_took_too_long_is_not_ours() -> None:
    with pytest.raises(TimeoutError, match="from within"):
        LimitedWait(60.0)(lambda: fail(TimeoutError("from within")), "it")


def test_while_work_hangs_further_work_fails_at_once() -> None:
    in_time, gate, calls = LimitedWait(0.01), threading.Event(), []
    try:
        with pytest.raises(TimeoutError, match=r"nothing for 0.01 s: 'it'"):
            in_time(gate.wait, "it")
        with pytest.raises(TimeoutError):
            in_time(lambda: calls.append(1), "it")
        assert calls == []
    finally:
        gate.set()

    def works_again() -> bool:
        try:
            return in_time(lambda: True, "it")
        except TimeoutError:
            return False

    until(works_again)


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    in_time = LimitedWait(60.0)

    def cannot_start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", cannot_start)
        with pytest.raises(OSError, match="can't start new thread"):
            in_time(lambda: 7, "it")
    assert in_time(lambda: 7, "it") == 7
