"""
What the journal says of crashes that were kept before the start.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from collectord.concurrency.threadpool import ThreadPool
from collectord.daemon.recall import recall
from collectord.duplicates.table import KeptTable
from collectord.model import CrashEvent, Step
from collectord.observe.journal.lines import format_event, journal_day, journal_path
from collectord.settings.schema import Ledger, Settings, Submission
from tests.unit.intake.parts import recorded_log

pytestmark = pytest.mark.usefixtures("threads_at_once")

DIGEST = bytes(range(16))
OTHER = bytes(range(16, 32))


def crash_id(number: int, at: float) -> str:
    return f"8f63752c-57c6-4e5d-b2cf-{number:05x}2{time.strftime('%y%m%d', time.gmtime(at))}"


def write(
    directory: Path, kind: Step, crash: str, at: float, digest: bytes | None = None, where: str = "/store"
) -> None:
    about = {} if digest is None else {"rule": "all", "digest": digest.hex()}
    line = format_event(CrashEvent(at=at, crash_id=crash, kind=kind, where=where, about=about))
    with journal_path(directory, journal_day(crash)).open("a") as journal:
        journal.write(line)


def recalled(directory: Path, *, window: float = 3600.0, enabled: bool = True) -> KeptTable:
    settings = Settings(
        submission=Submission(duplicate_window_s=window), ledger=Ledger(directory=directory, enabled=enabled)
    )
    table = KeptTable()
    pool = ThreadPool("recall", 1, lambda call, *args: call(*args))
    done: Deferred[Any] = Deferred.fromCoroutine(recall(table, settings, ["/store"], pool, Clock()))
    assert done.called
    assert table.is_filled
    return table


def known(table: KeptTable, digest: bytes = DIGEST) -> str | None:
    return table.crash_id_of(digest, 0, time.time() + 1)


def test_what_was_kept_lately_is_known_again(tmp_path: Path) -> None:
    now = time.time()
    lately, before = crash_id(1, now - 3000), crash_id(2, now - 4000)
    write(tmp_path, "kept", before, now - 4000, OTHER)
    write(tmp_path, "kept", lately, now - 3000, DIGEST)
    write(tmp_path, "kept", crash_id(3, now), now - 10)
    table = recalled(tmp_path)
    assert (known(table), known(table, OTHER)) == (lately, None)


@pytest.mark.parametrize(
    ("steps", "where", "was_moved"),
    [
        pytest.param(["moved", "published", "removed"], "/there", True, id="moved"),
        pytest.param(["moved"], "/there", True, id="not yet removed"),
        pytest.param(["moved", "removed"], "/store", False, id="moved to another store of ours"),
        pytest.param(["quarantined", "duplicate"], "/store", False, id="quarantined"),
        pytest.param(["moved", "removed", "erased"], "/there", False, id="erased"),
        pytest.param(["moved", "erased", "moved"], "/there", True, id="moved again"),
    ],
)
def test_which_crashes_were_moved(tmp_path: Path, steps: list[Step], where: str, was_moved: bool) -> None:
    now = time.time()
    crash = crash_id(1, now)
    write(tmp_path, "kept", crash, now - 9, DIGEST)
    for step in steps:
        write(tmp_path, step, crash, now - 8, where=where)
    table = recalled(tmp_path)
    assert (known(table), table.was_moved(crash)) == (crash, was_moved)


@pytest.mark.parametrize("how", [{"window": 0.0}, {"enabled": False}], ids=["no window", "no journal"])
def test_nothing_is_recalled(tmp_path: Path, how: dict[str, Any]) -> None:
    now = time.time()
    write(tmp_path, "kept", crash_id(1, now), now, DIGEST)
    assert known(recalled(tmp_path, **how)) is None


def test_a_journal_that_can_t_be_read(tmp_path: Path) -> None:
    now = time.time()
    journal_path(tmp_path, journal_day(crash_id(1, now))).mkdir()
    with recorded_log() as log:
        assert known(recalled(tmp_path)) is None
    (event,) = log.events
    assert "duplicates of it may be stored" in formatEvent(event)


def test_a_disk_that_hangs_holds_up_no_client(tmp_path: Path) -> None:
    class Hanging(ThreadPool):
        def __call__(self, work: Callable[[], Any], /) -> Deferred[Any]:
            return Deferred()

    table, clock = KeptTable(), Clock()
    pool = Hanging("recall", 1, lambda call, *args: call(*args))
    with recorded_log() as log:
        done: Deferred[Any] = Deferred.fromCoroutine(recall(table, Settings(), [], pool, clock))
        assert not table.is_filled
        clock.advance(5)
    assert (done.called, table.is_filled) == (True, True)
    (event,) = log.events
    assert "duplicates of it may be stored" in formatEvent(event)


def test_damage_is_passed_over(tmp_path: Path) -> None:
    now = time.time()
    crash = crash_id(1, now)
    write(tmp_path, "kept", "no crash id " + crash[-6:], now - 1, OTHER)
    write(tmp_path, "kept", crash, now, DIGEST)
    table = recalled(tmp_path)
    assert (known(table), known(table, OTHER)) == (crash, None)
