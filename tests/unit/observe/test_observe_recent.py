from collectord.model import CrashEvent, Step
from collectord.observe.recent import MOST, RecentCrashes


def kept(crash_id: str) -> CrashEvent:
    about: dict[str, str | int] = {"product": "Fenix", "version": "1", "size": 5, "rule": "all"}
    return CrashEvent(at=1.0, crash_id=crash_id, what="kept", where="/a", about=about)


def then(crash_id: str, what: Step, where: str) -> CrashEvent:
    return CrashEvent(at=2.0, crash_id=crash_id, what=what, where=where)


def test_what_became_of_it() -> None:
    recents = RecentCrashes()
    recents.note(kept("a"))
    recents.note(kept("b"))
    recents.note(then("a", "moved", "s3"))
    recents.note(then("a", "published", "queue"))
    recents.note(then("a", "removed", "/a"))
    second, first = recents.newest_first()
    assert (first.crash_id, first.state, first.where, first.at) == ("a", "published", "queue", 1.0)
    assert (first.product, first.version, first.size, first.rule) == ("Fenix", "1", 5, "all")
    assert (second.crash_id, second.state, second.where) == ("b", "kept", "/a")


def test_others_are_not_remembered() -> None:
    recents = RecentCrashes()
    recents.note(then("a", "moved", "s3"))
    assert recents.newest_first() == []


def test_only_the_last_ones_are() -> None:
    recents = RecentCrashes()
    for number in range(MOST + 5):
        recents.note(kept(str(number)))
    assert [recent.crash_id for recent in recents.newest_first()][:: MOST - 1] == [str(MOST + 4), "5"]
