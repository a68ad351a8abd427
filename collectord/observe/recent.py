"""
The last crashes and what became of them, for the admin page.
"""

from collections import OrderedDict
from collections.abc import Sequence

from attrs import evolve

from collectord.model import CrashEvent
from collectord.observe.status import Recent

MOST = 100
"""Crashes that are remembered."""


class RecentCrashes:
    """Remembers the last crashes that were kept, and the last thing that happened to each."""

    def __init__(self) -> None:
        self._crashes: OrderedDict[str, Recent] = OrderedDict()

    def note(self, event: CrashEvent) -> None:
        """Remember what happened to a crash. An event of a crash that is not remembered counts only if it is "kept"."""
        known = self._crashes.get(event.crash_id)
        if event.kind == "kept":
            about = event.about
            self._crashes[event.crash_id] = Recent(
                crash_id=event.crash_id,
                at=event.at,
                product=str(about.get("product", "")),
                version=str(about.get("version", "")),
                size=int(about.get("size", 0)),
                rule=str(about.get("rule", "")),
                state="kept",
                where=event.where,
            )
            if len(self._crashes) > MOST:
                self._crashes.popitem(last=False)
        elif known is not None and event.kind not in ("removed", "duplicate"):  # Where it went before says more.
            # The destination is where the crash is; the queue only has its id.
            where = known.where if event.kind == "published" else event.where
            self._crashes[event.crash_id] = evolve(known, state=event.kind, where=where)

    def newest_first(self) -> Sequence[Recent]:
        """Return all crashes that are remembered."""
        return list(reversed(self._crashes.values()))
