"""
The same report sent twice to a real daemon: one crash is stored, and both clients get its id.
"""

import os
import random
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from attrs import define, evolve

from tests.e2e.test_e2e_command import collectord
from tests.e2e.test_e2e_crashmover import files_of_crashes, moving
from tests.e2e.test_e2e_workers import are_others, metric
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.http import post
from tests.support.process import children
from tests.support.reports import HEADERS, Report, crash_id_in, is_whole, make_report
from tests.support.response import Incomplete
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.e2e

WINDOW_S = 3600
SIZES = (3000, 400_000)


@define
class Scene:
    """A daemon over one store."""

    root: Path
    daemon: Daemon

    def post(self, report: Report) -> str:
        return crash_id_in(post(self.daemon.port, report.body(), HEADERS, timeout=60))

    def post_to_be_killed(self, report: Report) -> Sequence[str]:
        """What is acknowledged. A worker whose parent was killed stops, and may answer 503."""
        try:
            answer = post(self.daemon.port, report.body(), HEADERS, timeout=60)
        except (OSError, Incomplete):
            return []
        return [] if answer.status == 503 else [crash_id_in(answer)]

    def post_at_once(self, *reports: Report) -> list[str]:
        with ThreadPoolExecutor(len(reports)) as pool:
            return list(pool.map(self.post, reports))

    def assert_stored(self, *crash_ids: str) -> None:
        """Exactly these, and whole. What was spilled of a duplicate is removed a moment after its answer."""
        crashes = stored_crashes(self.root)
        assert set(crashes) == set(crash_ids)
        assert all(is_whole(crash) for crash in crashes.values())
        until(lambda: not problems(self.root))

    def journal(self) -> Sequence[Sequence[str]]:
        """All entries. The journal is there a moment after the first answer."""
        journals = (self.root / "ledger").glob("*.journal")
        return [line.split("\t") for journal in journals for line in journal.read_text().splitlines()]


def make_scene(tmp_path: Path, workers: int, more: str = "", *, moves: bool = False) -> Scene:
    port, admin, root = free_port(), free_port(), tmp_path / "root"
    submission = f"workers = {workers}\nmemory_bytes = 100000"
    toml = config(port, root, submission=submission, admin=admin, duplicate_window_s=WINDOW_S, moves=moves)
    return Scene(root, Daemon(toml + more, port, tmp_path / "work", env={"ADMIN": str(admin)}))


@pytest.fixture(params=[1, 2], ids=["alone", "two workers"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return make_scene(tmp_path, request.param)


@pytest.mark.parametrize("size", SIZES)
def test_again_and_at_once(scene: Scene, size: int) -> None:
    """Also while the first one is being received, and from connections of their own, so by all workers."""
    with scene.daemon as daemon:
        first = scene.post(make_report("first", size))
        second = make_report("second", size)
        ids = scene.post_at_once(*[second] * 20)
        assert len(set(ids)) == 1
        assert {scene.post(make_report("first", size)) for _ in range(10)} == {first}
        scene.assert_stored(first, ids[0])
        until(lambda: metric(daemon, "collectord_duplicates_total") == 29)
        until(lambda: daemon.log().count(" came again") == 29)
        until(lambda: len([fields for fields in scene.journal() if fields[1:] == ["duplicate", first]]) == 10)
    scene.assert_stored(first, ids[0])


def test_reports_that_differ_a_little_are_all_stored(scene: Scene) -> None:
    with scene.daemon:
        ids = scene.post_at_once(*(make_report(f"n{number}", 1000) for number in range(20)))
        scene.assert_stored(*ids)
    assert len(set(ids)) == 20


def test_without_a_minidump_only_a_client_s_own_id_tells(scene: Scene) -> None:
    """Two machines may send the same annotations and the same log."""
    log = Report({"ProductName": "Fenix", "Serial": "n1"}, {"log": b"out of memory"})
    named = evolve(log, annotations={**log.annotations, "CrashGUID": "7"})
    with scene.daemon:
        ids = [scene.post(report) for report in (log, log, named, named)]
        assert len(set(ids)) == 3
        assert set(stored_crashes(scene.root)) == set(ids)
        assert ids[2] == ids[3]


def test_a_user_who_sends_a_deferred_crash_again_to_have_it_processed(tmp_path: Path) -> None:
    """Also after a restart: it is another crash then."""
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\nname = "by_hand"\nkey = "Throttleable"\nequals = "0"\nresult = "accept"\n'
        '[[rule]]\nname = "others"\nkey = "*"\nresult = "defer"\n'
    )
    scene = make_scene(tmp_path, 1, f"[throttle]\nrules = '{rules}'\n")
    first = make_report("first", 1000)
    by_hand = evolve(first, annotations={**first.annotations, "Throttleable": "0"})
    with scene.daemon:
        deferred = scene.post(first)
        assert scene.post(first) == deferred
    with scene.daemon:
        assert scene.post(first) == deferred
        accepted = scene.post(by_hand)
        assert accepted != deferred
        assert [scene.post(report) for report in (by_hand, first)] == [accepted] * 2
    with scene.daemon:
        assert scene.post(first) == accepted
    kept = {crash_id: crash.raw_crash["legacy_processing"] for crash_id, crash in stored_crashes(scene.root).items()}
    assert kept == {deferred: 1, accepted: 0}


def test_a_client_that_hung_up_before_its_answer(scene: Scene) -> None:
    report = make_report("lost", 400_000)
    with scene.daemon:
        with Upload(scene.daemon.port, report.body()) as upload:
            upload.send_to(len(report.body()))
        scene.assert_stored(scene.post(report))


def test_after_a_restart(scene: Scene) -> None:
    report = make_report("first", 1000)
    with scene.daemon:
        first = scene.post(report)
    with scene.daemon:
        assert scene.post(report) == first
        assert scene.post(make_report("second", 1000)) != first
    with scene.daemon:
        assert scene.post(report) == first
        assert len(stored_crashes(scene.root)) == 2


def test_after_a_worker_died(tmp_path: Path) -> None:
    scene, report = make_scene(tmp_path, 2), make_report("first", 1000)
    with scene.daemon as daemon:
        first = scene.post(report)
        for worker in children(daemon.pid):
            before = children(daemon.pid)
            os.kill(worker, signal.SIGKILL)
            until(partial(are_others, daemon.pid, before))
        assert [scene.post(report) for _ in range(5)] == [first] * 5
        scene.assert_stored(first)


def test_after_kills(scene: Scene) -> None:
    """Twice stored, or the id of before; but never an id of what is not there."""
    chance = random.Random(7)
    reports = [make_report(f"n{number}", *SIZES[number % 2 :]) for number in range(6)]
    acknowledged: set[str] = set()
    for _ in range(5):
        scene.daemon.start()
        with ThreadPoolExecutor(6) as pool:
            posting = [pool.submit(scene.post_to_be_killed, report) for report in reports * 3]
            time.sleep(chance.uniform(0, 0.3))
            scene.daemon.kill()
            for post_ in posting:
                acknowledged.update(post_.result())
    with scene.daemon:
        acknowledged.update(scene.post_at_once(*reports))
        assert len(acknowledged) >= len(reports)
        crashes = stored_crashes(scene.root)
        assert acknowledged <= set(crashes)
        assert all(is_whole(crash) for crash in crashes.values())


@pytest.mark.parametrize("restarts", [False, True], ids=["at once", "after a restart"])
def test_of_a_crash_that_was_moved(tmp_path: Path, restarts: bool) -> None:
    there = tmp_path / "there"
    scene, report = make_scene(tmp_path, 1, moving(there), moves=True), make_report("first", 1000)
    with scene.daemon:
        first = scene.post(report)
        until(lambda: set(stored_crashes(there)) == {first} and not files_of_crashes(scene.root))
        if not restarts:
            assert scene.post(report) == first
    with scene.daemon as daemon:
        assert scene.post(report) == first
        assert (set(stored_crashes(there)), stored_crashes(scene.root)) == ({first}, {})
        assert collectord("crashes", "erase", "--yes", "--config", daemon.toml_path, first).status == 0
        second = scene.post(report)
        assert scene.post(report) == second != first
        until(lambda: set(stored_crashes(there)) == {second})


@pytest.mark.parametrize("change", ["swapped", "added", "all others"])
def test_of_a_crash_that_was_erased_before_the_stores_changed(tmp_path: Path, change: str) -> None:
    """The store that was the first one then does not come first any more, or is none of ours at all."""
    one, two, other, there = (tmp_path / name for name in ("one", "two", "other", "there"))
    roots = {"swapped": [two, one], "added": [other, one, two], "all others": [other]}[change]
    report, port = make_report("first", 1000), free_port()
    more = moving(there) + f'[ledger]\ndirectory = "{tmp_path / "ledger"}"\n'

    def settings(*stores: Path) -> str:
        return config(port, *stores, duplicate_window_s=WINDOW_S, moves=True) + more

    scene = Scene(one, Daemon(settings(one, two), port, tmp_path / "work"))
    with scene.daemon as daemon:
        first = scene.post(report)
        until(lambda: set(stored_crashes(there)) == {first} and not files_of_crashes(one))
        assert collectord("crashes", "erase", "--yes", "--config", daemon.toml_path, first).status == 0
    scene.daemon.toml = settings(*roots)
    with scene.daemon:
        second = scene.post(report)
        assert scene.post(report) == second != first


def test_while_crashes_are_moved(tmp_path: Path) -> None:
    """At any moment of the move of its crash, a duplicate gets the same id."""
    there = tmp_path / "there"
    scene = make_scene(tmp_path, 2, moving(there), moves=True)
    reports = [make_report(f"n{number}", 1000) for number in range(8)]
    with scene.daemon:
        ids = [scene.post(report) for report in reports]
        while files_of_crashes(scene.root) or len(stored_crashes(there)) < len(ids):
            assert scene.post_at_once(*reports) == ids
        assert scene.post_at_once(*reports) == ids
    assert set(stored_crashes(there)) == set(ids)


@pytest.mark.parametrize("by_hand", [False, True], ids=["by the command", "by hand"])
def test_of_a_crash_that_was_removed(scene: Scene, by_hand: bool) -> None:
    """Its id is not answered any more, in no worker, and the report is stored again."""
    report = make_report("first", 1000)
    with scene.daemon as daemon:
        first = scene.post(report)
        if by_hand:
            for path in scene.root.glob(f"*/name/*/*/{first}*"):
                path.unlink()
        else:
            assert collectord("crashes", "remove", "--yes", "--config", daemon.toml_path, first).status == 0
        second = scene.post(report)
        assert second != first
        assert [scene.post(report) for _ in range(8)] == [second] * 8
        assert is_whole(stored_crashes(scene.root)[second])


@pytest.mark.parametrize("restarts", [False, True], ids=["at once", "after a restart"])
def test_of_a_crash_that_was_quarantined(tmp_path: Path, restarts: bool) -> None:
    there, idle = tmp_path / "there", make_scene(tmp_path, 1)
    moves, report = make_scene(tmp_path, 1, moving(there), moves=True), make_report("first", 1000)
    with idle.daemon:
        first = idle.post(report)
    (dump,) = idle.root.glob(f"*/name/*/*/{first}.dump")
    dump.write_bytes(dump.read_bytes()[:-1] + b"?")
    with moves.daemon as daemon:
        until(lambda: f"{first} is in the quarantine" in daemon.log())
        if not restarts:
            assert moves.post(report) != first
    if restarts:
        with idle.daemon:
            assert idle.post(report) != first
