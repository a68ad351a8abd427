from collectord.model import CrashEvent, Step
from collectord.observe.recent import MOST, RecentCrashes


def kept(crash_id: str) -> CrashEvent:
    about: dict[str, str | int] = {"product": "Fenix", "version": "1", "size": 5, "rule": "all"}
    return CrashEvent(at=1.0, crash_id=crash_id, kind="kept", where="/a", about=about)


def then(crash_id: str, kind: Step, where: str) -> CrashEvent:
    return CrashEvent(at=2.0, crash_id=crash_id, kind=kind, where=where)


def test_what_became_of_it() -> None:
    recent = RecentCrashes()
    recent.note(kept("a"))
    recent.note(kept("b"))
    recent.note(then("a", "moved", "s3"))
    recent.note(then("a", "published", "queue"))
    recent.note(then("a", "removed", "/a"))
    recent.note(then("a", "duplicate", ""))
    recent.note(then("b", "duplicate", ""))
    second, first = recent.newest_first()
    assert (first.crash_id, first.state, first.where, first.at) == ("a", "published", "s3", 1.0)
    assert (first.product, first.version, first.size, first.rule) == ("Fenix", "1", 5, "all")
    assert (second.crash_id, second.state, second.where) == ("b", "kept", "/a")


def test_crashes_that_were_not_kept_here_are_not_remembered() -> None:
    recent = RecentCrashes()
    recent.note(then("a", "moved", "s3"))
    assert recent.newest_first() == []


def test_only_the_last_crashes_are_remembered() -> None:
    recent = RecentCrashes()
    for number in range(MOST + 5):
        recent.note(kept(str(number)))
    assert [recent.crash_id for recent in recent.newest_first()][:: MOST - 1] == [str(MOST + 4), "5"]
