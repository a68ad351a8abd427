"""
What the index knows of a crash, for its page: when the crash is in no store, and the journal does not have it, either.
"""

from collections.abc import Mapping

from attrs import evolve

from collectord.index.values import IndexedCrash
from collectord.observe.crashpage import MOVED_THERE, CrashLocation, CrashPage, JournalEntry

_ENDS = ("quarantined", "expired", "removed", "erased")
"""States after which nothing more happens, so that it is known when that was."""


def remembered(known: IndexedCrash, not_asked: str) -> CrashPage:
    """
    Make the page of a crash of which only the index knows.

    @param not_asked: see L{CrashPage}.
    """
    events = [JournalEntry(at=known.at, what="kept", where=known.store, rule=known.rule)]
    if known.state in _ENDS:
        events.append(JournalEntry(at=known.changed, what=known.state, where=known.store, place=known.why))
    keys = known.keys or [""] * len(known.moved_to)
    places = [
        CrashLocation(store=key or name, state=MOVED_THERE) for name, key in zip(known.moved_to, keys, strict=False)
    ]
    return CrashPage(
        crash_id=known.crash_id,
        annotations=None,
        facts={},
        dumps=[],
        places=places,
        events=events,
        not_asked=not_asked,
    )


def with_index(crash: CrashPage, known: IndexedCrash) -> CrashPage:
    """Add what only the index knows to the page of a crash that is in no store."""
    return evolve(crash, facts={**_facts(known), **crash.facts})


def _facts(crash: IndexedCrash) -> Mapping[str, str]:
    known = {
        "ProductName": crash.product,
        "Version": crash.version,
        "payload_size": "" if crash.size is None else str(crash.size),
        "throttle_rule": crash.rule,
        "fingerprint": crash.fingerprint,
        "crash_place": crash.place,
        "exception_name": crash.exception,
        "cpu": crash.cpu,
        "os": crash.os,
        "uptime_s": "" if crash.uptime_s is None else str(crash.uptime_s),
    }
    return {name: value for name, value in known.items() if value}
