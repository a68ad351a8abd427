"""
Counts reports in one process, until they are written to the index: how many were seen of each fingerprint and product.
"""

from collections.abc import Sequence
from typing import Any

from collectord.model import CrashFacts
from collectord.telling import SeenReport

Tally = tuple[Sequence[Sequence[Any]], Sequence[Sequence[Any]]]
"""
What was counted, in a shape that can be sent to another process as JSON.

The first list has C{[fingerprint, product, version, seen, kept]} for each combination, where each of the texts may be
empty. The second one has what is known of each fingerprint, with the fields of L{SeenFacts}.
"""

_MOST = 10_000
"""Combinations that are told apart between two writes. What comes beyond is counted without product or fingerprint."""
_REST = ("", "", "")


class SeenFacts:
    """
    What is known of one fingerprint by its last reports.

    @ivar at: when it was seen last.
    @ivar kept_at: when the crash C{kept_id} was kept, the last one; 0 if none was.
    @ivar left_out_at: when C{left_out_by}, a rule, left out a report with it; 0 if none did.
    """

    __slots__ = ("at", "facts", "kept_at", "kept_id", "left_out_at", "left_out_by")

    def __init__(self) -> None:
        self.facts: CrashFacts | None = None
        self.at = self.kept_at = self.left_out_at = 0.0
        self.kept_id = self.left_out_by = ""

    def note(self, report: SeenReport) -> None:
        """Take what C{report} says."""
        self.facts = report.facts
        self.at = report.at
        if report.became == "kept":
            self.kept_at, self.kept_id = report.at, report.crash_id
        elif report.became == "left_out":
            self.left_out_at, self.left_out_by = report.at, report.rule


class ReportTally:
    """Counts reports until somebody takes what was counted. It is for the reactor thread."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], list[int]] = {}
        self._facts: dict[str, SeenFacts] = {}

    def note(self, report: SeenReport) -> None:
        """Count one report."""
        fingerprint = (None if report.facts is None else report.facts.fingerprint) or ""
        key = (fingerprint, report.product, report.version)
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= _MOST:
                key = _REST
            count = self._counts.setdefault(key, [0, 0])
        count[0] += 1
        count[1] += report.became == "kept"
        if fingerprint and key is not _REST:
            facts = self._facts.get(fingerprint)
            if facts is None:
                facts = self._facts[fingerprint] = SeenFacts()
            facts.note(report)

    def take(self) -> Tally:
        """Return what was counted since this was called last."""
        counts, self._counts = self._counts, {}
        facts, self._facts = self._facts, {}
        return [[*key, *count] for key, count in counts.items()], [_listed(each) for each in facts.values()]


def _listed(seen: SeenFacts) -> Sequence[Any]:
    facts = seen.facts
    assert facts is not None
    return [
        facts.fingerprint,
        facts.place,
        facts.exception_name or facts.exception_code,
        facts.exception_code,
        facts.cpu,
        facts.os,
        seen.at,
        seen.kept_at,
        seen.kept_id,
        seen.left_out_at,
        seen.left_out_by,
    ]
