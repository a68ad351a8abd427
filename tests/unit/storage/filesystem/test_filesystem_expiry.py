"""
What expires in a store, and what never does: too old, too many, waiting, in hand, put aside.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from collectord.storage.filesystem.claims import take_out
from collectord.storage.filesystem.expiry import Expired, StoreExpiry
from collectord.storage.filesystem.keeplimits import KeepLimits, is_over
from collectord.storage.filesystem.layout import place_in
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sweep import sweep
from collectord.storage.filesystem.versions import mark_as_confirmed
from tests.support.disk import stored_crashes
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    NEIGHBOUR,
    STRANGER,
    Rig,
    die,
    everything,
    failing,
    make_crash,
    make_rig,
    of_crash,
    sweep_store,
    watched,
)

CAME = datetime(2016, 6, 22, 15, 19, 49, tzinfo=UTC)
DAY = timedelta(days=1)
LATER = datetime(2016, 8, 1, tzinfo=UTC)


def keep(
    rig: Rig, crash_id: str = CRASH_ID, came: datetime = CAME, *, is_new: bool = False, deferred: bool = False
) -> None:
    """Keep a crash that came then, and was moved since unless it C{is_new}."""
    crash = make_crash(crash_id, submitted_timestamp=came.isoformat(), legacy_processing=int(deferred))
    rig.save(rig.transaction(crash))
    place = place_in(str(rig.root), crash_id, "")
    os.utime(place.raw_crash, (came.timestamp(), came.timestamp()))
    if not is_new:
        for link in place.links():
            os.unlink(link)


def is_kept(root: Path, crash_id: str = CRASH_ID) -> bool:
    """Whether the crash is there, whole, new or not; an C{AssertionError} where it is neither whole nor absent."""
    found = stored_crashes(root).get(crash_id)
    if found is None:
        assert of_crash(root, crash_id) == []
        return False
    assert found.dumps == DUMPS
    return True


def expiry_of(rig: Rig, *, waits: bool = True, **limits: int) -> StoreExpiry:
    return StoreExpiry(rig.staging, KeepLimits(**limits), lambda: waits)  # type: ignore[arg-type]


def expired(expiry: StoreExpiry, now: datetime = LATER, clock: datetime | None = None) -> list[tuple[str, str]]:
    """What one pass removes, and why."""
    steps = expiry.steps(now, lambda: clock or now)
    return [(step.crash_id, step.why) for step in steps if isinstance(step, Expired)]


def test_a_day_is_over_when_its_last_crash_is_old_enough() -> None:
    assert not is_over("20160622", 30, datetime(2016, 7, 22, 23, 59, 59, tzinfo=UTC))
    assert is_over("20160622", 30, datetime(2016, 7, 23, tzinfo=UTC))
    assert not is_over("99999999", 1, LATER)
    assert not is_over("20160622", 10**9, LATER)


def test_without_limits_nothing_is_wanted(rig: Rig) -> None:
    assert not KeepLimits(waiting=True)
    keep(rig)
    assert expired(expiry_of(rig)) == []
    assert is_kept(rig.root)


def test_a_crash_is_removed_when_it_is_too_old(rig: Rig) -> None:
    keep(rig)
    keep(rig, STRANGER, CAME + DAY)
    expiry = expiry_of(rig, days=30)
    assert expired(expiry, datetime(2016, 7, 22, 23, 59, 59, tzinfo=UTC)) == []
    assert expired(expiry, datetime(2016, 7, 23, tzinfo=UTC)) == [(CRASH_ID, "keep_days")]
    assert not is_kept(rig.root)
    assert is_kept(rig.root, STRANGER)


def test_neighbours_stay(rig: Rig) -> None:
    keep(rig)
    keep(rig, NEIGHBOUR, is_new=True)
    assert expired(expiry_of(rig, days=30)) == [(CRASH_ID, "keep_days")]
    assert is_kept(rig.root, NEIGHBOUR)


def test_what_came_or_was_confirmed_lately_is_kept_whatever_its_id_says(rig: Rig) -> None:
    keep(rig)
    mark_as_confirmed(place_in(str(rig.root), CRASH_ID, "").raw_crash)
    assert expired(expiry_of(rig, days=30)) == []
    assert is_kept(rig.root)


def test_a_crash_that_is_confirmed_while_it_is_removed_stays(rig: Rig) -> None:
    """Whoever was told that it is kept may remove the last other copy."""
    keep(rig)
    raw_crash = place_in(str(rig.root), CRASH_ID, "").raw_crash

    def confirm(number: int, name: str, do: Callable[[], Any]) -> Any:
        mark_as_confirmed(raw_crash)
        return do()

    with watched(rig.root, ["link"], confirm) as disk:
        assert expired(expiry_of(rig, days=30)) == []
    assert disk.seen == 1
    assert is_kept(rig.root)


@pytest.mark.parametrize("waits", [True, False], ids=["moved from", "not moved from"])
@pytest.mark.parametrize("waiting", [True, False], ids=["waiting too", "not waiting"])
def test_what_waits_to_be_moved_is_kept_unless_it_is_wanted(rig: Rig, waits: bool, waiting: bool) -> None:
    keep(rig, is_new=True)
    expiry = expiry_of(rig, waits=waits, days=30, max_bytes=1, waiting=waiting)
    assert bool(expired(expiry)) == (waiting or not waits)
    assert is_kept(rig.root) == (waits and not waiting)
    assert expiry.over == (waits and not waiting)
    assert len(everything(rig.root)) == (4 if waits and not waiting else 0)


@pytest.mark.parametrize(
    ("limits", "why"), [(KeepLimits(days=30), "keep_days"), (KeepLimits(max_bytes=1), "keep_bytes")]
)
def test_a_crash_of_socorro_s_collector_waits_by_its_link_wherever_that_is(
    rig: Rig, limits: KeepLimits, why: str
) -> None:
    """It named the directory of the link after the time when it was done, in steps of four seconds."""
    keep(rig, is_new=True)
    place = place_in(str(rig.root), CRASH_ID, "")
    [link] = place.links()
    without_checksums = {"uuid": CRASH_ID, "submitted_timestamp": CAME.isoformat()}
    Path(place.raw_crash).write_text(json.dumps(without_checksums))
    os.utime(place.raw_crash, (CAME.timestamp(), CAME.timestamp()))
    slot = Path(link).parent.with_name("19_12")
    slot.mkdir()
    os.rename(link, slot / CRASH_ID)
    assert expired(StoreExpiry(rig.staging, limits, lambda: True)) == []
    assert is_kept(rig.root)
    assert expired(StoreExpiry(rig.staging, evolve(limits, waiting=True), lambda: True)) == [(CRASH_ID, why)]
    assert not is_kept(rig.root)


def test_deferred_crashes_have_days_of_their_own(rig: Rig) -> None:
    keep(rig, deferred=True)
    keep(rig, NEIGHBOUR)
    expiry = expiry_of(rig, days=30, deferred_days=3)
    assert expired(expiry, CAME + 5 * DAY) == [(CRASH_ID, "keep_deferred_days")]
    assert is_kept(rig.root, NEIGHBOUR)
    keep(rig, deferred=True)
    assert expired(expiry, CAME + 5 * DAY) == []  # the day was searched a moment ago
    assert expired(expiry, CAME + 6 * DAY) == [(CRASH_ID, "keep_deferred_days")]
    assert expired(expiry, CAME + 40 * DAY) == [(NEIGHBOUR, "keep_days")]


def test_deferred_crashes_are_looked_for_again_after_the_clock_was_put_back(rig: Rig) -> None:
    expiry = expiry_of(rig, days=100, deferred_days=3)
    keep(rig, NEIGHBOUR)
    assert expired(expiry, CAME + 50 * DAY) == []
    keep(rig, deferred=True)
    assert expired(expiry, CAME + 5 * DAY) == [(CRASH_ID, "keep_deferred_days")]


def test_deferred_crashes_may_be_kept_for_longer(rig: Rig) -> None:
    keep(rig, deferred=True)
    assert expired(expiry_of(rig, days=3, deferred_days=30), CAME + 9 * DAY) == []
    assert expired(expiry_of(rig, deferred_days=30), CAME + 40 * DAY) == [(CRASH_ID, "keep_deferred_days")]


def crash_ids(day: str, count: int) -> list[str]:
    return [f"{n:02x}{n:02x}752c-57c6-4e5d-b2cf-cabde2{day}" for n in range(count)]


def test_of_too_many_the_oldest_are_removed(rig: Rig) -> None:
    today = crash_ids("160623", 4)
    for n, crash_id in enumerate(today):
        keep(rig, crash_id, CAME + DAY + timedelta(minutes=(n * 7) % 4))
    keep(rig)
    expiry = expiry_of(rig, max_bytes=1 << 40)
    assert expired(expiry) == []
    assert expiry.kept_bytes is not None
    each = expiry.kept_bytes / 5
    expiry = expiry_of(rig, max_bytes=int(2.5 * each))
    by_age = sorted(today, key=lambda crash_id: (today.index(crash_id) * 7) % 4)
    assert expired(expiry) == [(crash_id, "keep_bytes") for crash_id in (CRASH_ID, *by_age[:2])]
    assert (expiry.kept_bytes, expiry.over) == (2 * each, False)


def test_the_memory_for_the_oldest_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.storage.filesystem.expiry._AT_ONCE", 2)
    ids = crash_ids("160622", 9)
    for n, crash_id in enumerate(ids):
        keep(rig, crash_id, CAME - timedelta(days=5_000 * n), is_new=n == 8)  # some before 1970
    assert [crash_id for crash_id, _ in expired(expiry_of(rig, max_bytes=1))] == list(reversed(ids[:8]))


def test_what_others_remove_meanwhile_is_not_made_up_for(rig: Rig) -> None:
    """Two hosts that share a store, or somebody who erases crashes: not more than needed is removed by all together."""
    other = make_rig(rig.root)
    ids = [*crash_ids("160622", 4), *crash_ids("160623", 4)]
    for n, crash_id in enumerate(ids):
        keep(rig, crash_id, CAME + timedelta(minutes=n))
    expiry = expiry_of(rig, max_bytes=1 << 40)
    expired(expiry)
    assert expiry.kept_bytes is not None
    most = expiry.kept_bytes // 8 * 3
    one, two = (expiry_of(each, max_bytes=most).steps(LATER, lambda: LATER) for each in (rig, other))
    removed = [step for pair in zip_longest(one, two) for step in pair if step]
    assert sorted(step.crash_id for step in removed) == sorted(ids[:5])
    other.staging.remove()


def test_what_came_just_now_is_not_removed_to_make_space(rig: Rig) -> None:
    """Its client may not have been told yet that it is kept."""
    keep(rig)
    expiry = expiry_of(rig, max_bytes=1)
    assert expired(expiry, clock=CAME + timedelta(seconds=59)) == []
    assert expired(expiry, clock=CAME - timedelta(seconds=59)) == []
    assert expiry.over
    assert len(expired(expiry, clock=CAME + timedelta(seconds=61))) == 1


def test_what_came_while_a_long_pass_goes_on_is_not_removed_to_make_space(rig: Rig) -> None:
    keep(rig)
    clock = [CAME + timedelta(hours=1)]
    steps = expiry_of(rig, max_bytes=1).steps(LATER, lambda: clock[0])
    assert next(steps) is None
    clock[0] += timedelta(hours=1)
    keep(rig, NEIGHBOUR, clock[0])
    assert [step.crash_id for step in steps if step] == [CRASH_ID]
    assert is_kept(rig.root, NEIGHBOUR)


@pytest.mark.parametrize("limits", [{"days": 1}, {"max_bytes": 1}], ids=["too old", "too many"])
def test_the_quarantine_and_unpublished_ids_are_not_touched(rig: Rig, limits: dict[str, int]) -> None:
    keep(rig)
    for where in (f"quarantine/{CRASH_ID}", "unpublished/queue/20160622T1519"):
        (rig.root / where).mkdir(parents=True)
        os.link(place_in(str(rig.root), CRASH_ID, "").raw_crash, rig.root / where / f"{CRASH_ID}.json")
    assert len(expired(expiry_of(rig, **limits))) == 1  # type: ignore[arg-type]
    assert len(everything(rig.root)) == 2


def test_a_crash_that_another_process_has_in_hand_stays(rig: Rig) -> None:
    keep(rig)
    other = make_rig(rig.root)
    record = Path(other.staging.intent_record(CRASH_ID))
    record.touch()
    expiry = expiry_of(rig, days=30)
    assert expired(expiry) == []
    assert is_kept_beside(rig, record)
    record.unlink()
    assert len(expired(expiry)) == 1
    other.staging.remove()


def is_kept_beside(rig: Rig, record: Path) -> bool:
    return record.exists() and os.path.exists(place_in(str(rig.root), CRASH_ID, "").raw_crash)


def test_a_crash_that_this_process_is_keeping_again_stays(rig: Rig) -> None:
    keep(rig)
    record = Path(rig.staging.intent_record(CRASH_ID))
    record.touch()
    assert expired(expiry_of(rig, days=30)) == []
    assert is_kept_beside(rig, record)
    record.unlink()


def test_another_daemon_that_removes_the_same_crash_does_no_harm(rig: Rig) -> None:
    other = make_rig(rig.root)
    keep(rig)
    first = expiry_of(rig, days=30).steps(LATER, lambda: LATER)
    second = expiry_of(other, days=30)
    assert next(step for step in first if step) == Expired(crash_id=CRASH_ID, why="keep_days")
    assert expired(second) == []
    assert everything(rig.root) == []
    other.staging.remove()


def test_a_damaged_crash_expires_as_others(rig: Rig) -> None:
    keep(rig, is_new=True)
    raw_crash = Path(place_in(str(rig.root), CRASH_ID, "").raw_crash)
    raw_crash.write_text("{")
    os.utime(raw_crash, (CAME.timestamp(), CAME.timestamp()))
    assert expired(expiry_of(rig, days=30)) == []
    assert len(expired(expiry_of(rig, waits=False, days=30))) == 1
    assert everything(rig.root) == []


def test_empty_directories_go_when_nobody_counts_on_them_any_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(rig)
    expiry = expiry_of(rig, days=30)
    now = datetime.now(UTC)  # the time of a directory is that of the system
    expired(expiry, now)
    assert (rig.root / "20160622").is_dir()
    expired(expiry, now + timedelta(minutes=6))
    assert not (rig.root / "20160622").exists()


def test_what_could_not_be_removed_is_removed_by_the_next_pass(rig: Rig) -> None:
    keep(rig)
    expiry = expiry_of(rig, days=30)
    with failing(rig.root, "unlink", 2, OSError(5, "injected")), pytest.raises(OSError, match="injected"):
        expired(expiry)
    assert not os.path.exists(place_in(str(rig.root), CRASH_ID, "").raw_crash)
    assert expired(expiry) == [(CRASH_ID, "keep_days")]
    assert everything(rig.root) == []


@pytest.mark.parametrize("limits", [{"days": 30}, {"max_bytes": 1}], ids=["too old", "too many"])
def test_one_bad_crash_does_not_keep_the_others(
    rig: Rig, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = crash_ids("160622", 4)
    for crash_id in ids:
        keep(rig, crash_id)
    scan = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("/name/01"):
            raise PermissionError(13, "not ours", path)
        return scan(path)

    def take(staging: StagingDirectory, crash_id: str, *args: Any) -> None:
        if crash_id == ids[2]:
            raise OSError(5, "a bad sector")
        take_out(staging, crash_id, *args)

    monkeypatch.setattr("os.scandir", scandir)
    monkeypatch.setattr("collectord.storage.filesystem.expiry.take_out", take)
    found, steps = [], expiry_of(rig, **limits).steps(LATER, lambda: LATER)  # type: ignore[arg-type]
    with pytest.raises(PermissionError, match="not ours"):
        found += [step.crash_id for step in steps if step]  # what comes before the error is not lost
    monkeypatch.setattr("os.scandir", scan)
    assert [is_kept(rig.root, crash_id) for crash_id in ids] == [False, True, True, False]


@pytest.mark.parametrize("limits", [KeepLimits(days=30), KeepLimits(max_bytes=1)], ids=["too old", "too many"])
def test_many_bad_directories_between_good_ones_do_not_keep_the_crashes_in_these(
    rig: Rig, limits: KeepLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = crash_ids("160622", 50)
    for crash_id in ids:
        keep(rig, crash_id)
    scan = os.scandir

    def scandir(path: str | Path) -> Any:
        if str(path).rpartition("/name/")[2] in bad:
            raise PermissionError(13, "not ours", path)
        return scan(path)

    bad = {f"{n:02x}" for n in range(0, 50, 2)}
    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(PermissionError, match="not ours"):
        expired(StoreExpiry(rig.staging, limits, lambda: True))
    bad.clear()
    assert [is_kept(rig.root, crash_id) for crash_id in ids] == [True, False] * 25


def test_a_dump_that_can_t_be_removed_keeps_no_other_crash(rig: Rig) -> None:
    expiry = expiry_of(rig, days=30)
    keep(rig)
    with failing(rig.root, "unlink", 2, OSError(1, "immutable")), pytest.raises(OSError, match="immutable"):
        expired(expiry)
    keep(rig, NEIGHBOUR)
    with failing(rig.root, "unlink", 1, OSError(1, "immutable")), pytest.raises(OSError, match="immutable"):
        expired(expiry)
    assert not is_kept(rig.root, NEIGHBOUR)
    assert expired(expiry) == [(CRASH_ID, "keep_days")]
    assert everything(rig.root) == []


def test_a_store_that_lets_nothing_be_removed_is_given_up_soon(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for crash_id in crash_ids("160622", 30):
        keep(rig, crash_id)
    tried = []

    def refuse(staging: StagingDirectory, crash_id: str, *args: Any) -> None:
        tried.append(crash_id)
        raise OSError(30, "read-only")

    monkeypatch.setattr("collectord.storage.filesystem.expiry.take_out", refuse)
    with pytest.raises(OSError, match="read-only"):
        expired(expiry_of(rig, days=30))
    assert len(tried) == 20


def test_a_crash_whose_time_is_no_time_expires(rig: Rig) -> None:
    keep(rig)
    raw_crash = Path(place_in(str(rig.root), CRASH_ID, "").raw_crash)
    raw_crash.write_text('{"submitted_timestamp": "2016-06-22T\\u00000:00:00"}')
    os.utime(raw_crash, (CAME.timestamp(), CAME.timestamp()))
    assert expired(expiry_of(rig, days=30)) == [(CRASH_ID, "keep_days")]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def copies(tmp_path: Path) -> Callable[[], Rig]:
    """Stores of their own, one after the other."""
    numbers = iter(range(1000))
    return lambda: make_rig(tmp_path / f"copy{next(numbers)}")


@pytest.mark.slow
@pytest.mark.parametrize("limits", [{"days": 30}, {"max_bytes": 1}], ids=["too old", "too many"])
def test_a_kill_at_any_step_leaves_a_crash_whole_or_nothing(copies: Callable[[], Rig], limits: dict[str, int]) -> None:
    seen: set[bool] = set()
    for operation in ("link", "unlink", "rmdir", "rename"):
        for number in range(1, 20):
            rig = copies()
            keep(rig, is_new=True)
            error = Killed()
            try:
                with failing(rig.root, operation, number, error):  # type: ignore[arg-type]
                    expired(expiry_of(rig, waits=False, **limits))
            except Killed:
                die(rig.staging)
                sweep_store(rig.root)
                seen.add(is_kept(rig.root))
                assert [path for path in everything(rig.root) if "staging" in path] == []
                continue
            break
    assert seen == {True, False}


def test_it_goes_on_after_a_sweep_of_another_process(rig: Rig) -> None:
    """A sweep leaves alone what a living process removes."""
    keep(rig)
    expiry = expiry_of(rig, days=30)
    with failing(rig.root, "unlink", 2, OSError(5, "injected")), pytest.raises(OSError, match="injected"):
        expired(expiry)
    other = StagingDirectory(str(rig.root), Modes())
    other.make()
    sweep(other)
    other.remove()
    assert expired(expiry) == [(CRASH_ID, "keep_days")]


def test_a_crash_that_came_back_after_a_sweep_took_this_process_for_dead_stays(rig: Rig) -> None:
    """As one on another host may that does not see its lock, and to whom nothing was heard of it for a day."""
    keep(rig)
    expiry = expiry_of(rig, days=30)
    with failing(rig.root, "unlink", 2, OSError(5, "injected")), pytest.raises(OSError, match="injected"):
        expired(expiry)
    os.unlink(rig.staging.intent_record(CRASH_ID))
    for path in of_crash(rig.root):
        os.unlink(rig.root / path)
    keep(rig, is_new=True)
    os.utime(place_in(str(rig.root), CRASH_ID, "").raw_crash)
    for _ in range(2):
        assert expired(expiry, datetime.now(UTC)) == []
        assert is_kept(rig.root)


@pytest.mark.parametrize("limits", [{"days": 30}, {"max_bytes": 1}], ids=["too old", "too many"])
def test_what_links_lead_to_and_what_is_foreign_is_not_touched(
    rig: Rig, tmp_path: Path, limits: dict[str, int]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("raw.json", "a.dump", f"{STRANGER}.json"):
        (outside / name).write_text('{"a": 1}')
        os.utime(outside / name, (0, 0))
    place = place_in(str(rig.root), CRASH_ID, "")
    os.makedirs(place.name_dir)
    os.symlink(outside / "raw.json", place.raw_crash)
    os.symlink(outside / "a.dump", place.dump("upload_file_minidump"))
    os.makedirs(f"{place.name_dir}/{CRASH_ID}.other.dump")
    os.symlink(outside, rig.root / "20160622" / "name" / "aa")
    (rig.root / "20160622" / "README").write_text("foreign")
    (rig.root / "20160101").write_text("a file with the name of a day")
    (rig.root / "20301231" / "name").mkdir(parents=True)
    expiry = expiry_of(rig, **limits)  # type: ignore[arg-type]
    assert [crash_id for crash_id, _ in expired(expiry, datetime.now(UTC) + DAY)] == [CRASH_ID]
    assert not os.path.lexists(place.raw_crash)
    assert sorted(path.name for path in outside.iterdir()) == [f"{STRANGER}.json", "a.dump", "raw.json"]
    assert (rig.root / "20160622" / "README").exists()
    assert (rig.root / "20160101").exists()
    assert (rig.root / "20160622" / "name" / "aa").exists()


def test_crashes_of_a_future_day_are_not_too_old_and_go_last(rig: Rig) -> None:
    """The clock was wrong when they came."""
    future = crash_ids("301231", 1)[0]
    keep(rig, future)
    keep(rig)
    assert expired(expiry_of(rig, days=1)) == [(CRASH_ID, "keep_days")]
    keep(rig)
    assert [crash_id for crash_id, _ in expired(expiry_of(rig, max_bytes=1))] == [CRASH_ID, future]
