"""
Counts the reports of each group, for rules with a rate.

Each process counts for itself. What it does not know any more is as if it had never been: the next report of that group
is its first, and is let through. So no limit of memory can cost the only report of a bug.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from attrs import define

from collectord.model import Annotations
from collectord.throttle.rate import RateSample
from collectord.throttle.results import Result
from collectord.throttle.rules import Rule, Verdict
from collectord.throttle.traits import Traits, grouping_of

MOST_GROUPS = 65_536
"""Groups that a process knows. Rules with a rate share them evenly."""

_MOST_REPORTS = 16_384
"""Reports of which it is known how they were counted. They are sent again within minutes, if at all."""

_NOT_REJECTED = (Result.ACCEPT, Result.DEFER, Result.CONTINUE)

_NEVER = 1e18
"""Reports after which the next one is let through, if none is to be."""

ReportId = str | bytes


@define
class Group:
    """
    A group is the reports that are counted together, and how many have come.

    @ivar until: when counting begins anew, by the clock of the process.
    @ivar kept: how many of them were let through, except those that another rule rejected.
    @ivar due: the next one is let through once so many were seen.
    """

    until: float
    seen: float = 0
    kept: float = 0
    due: float = 0


class Ticket(NamedTuple):
    """
    A ticket says how one report was counted for one rule.

    @ivar added: what it added to C{group.seen}: 1, or 0 if it had come before.
    @ivar took: what it added to C{group.kept}: 1, or 0 if it had come before or was not let through.
    @ivar seen: C{group.seen} at that time, this report included; C{kept} likewise.
    """

    counts: "RuleCounts"
    group: Group
    verdict: Verdict
    added: float
    took: float
    seen: float
    kept: float


_Counted: TypeAlias = tuple["RuleCounts", Group, Verdict, float, float, float, float]
"""What is in a L{Ticket}: to make a tuple takes an eighth of the time of making one."""


class RuleCounts:
    """
    Rule counts are what is known of the reports that one rule counts: a table of groups. The one that came least lately
    is the first to be forgotten.

    @ivar name_of: returns the name of the group of a report, or None.
    @ivar groups: by name; those that came last are at the end.
    @ivar first: how many reports of a group this process lets through at first.
    @ivar most: how many groups it may know.
    """

    def __init__(self, rule: Rule, rate: RateSample, on_forgotten: Callable[[], None]) -> None:
        self.rule = rule
        self.name_of = grouping_of(rate)
        self.groups: OrderedDict[str, Group] = OrderedDict()
        self.first = rate.first
        self.most = MOST_GROUPS
        self._every = rate.every or _NEVER
        self._window = rate.hours * 3600
        self._on_forgotten = on_forgotten

    def begin(self, name: str, now: float) -> Group:
        """Begin to count a group, also if it was counted before. Forget others if there are too many."""
        group = self.groups[name] = Group(now + self._window)
        while len(self.groups) > self.most:
            _, oldest = self.groups.popitem(last=False)
            if now < oldest.until:
                self._on_forgotten()
        return group

    def let_through(self, group: Group, weight: float) -> Verdict:
        """Let a report through that has just been seen, and return the verdict on it."""
        group.kept += weight
        if group.kept >= self.first:
            group.due = group.seen + weight * self._every
        return self.rule.below if group.kept <= self.first else self.rule.later

    def take_back(self, group: Group, seen: float, kept: float) -> None:
        """Take back what a report has added to its group, or a part of it. The next report comes in for it."""
        group.seen -= seen
        group.kept -= kept
        group.due = 0 if group.kept < self.first else group.due - kept * self._every


class RateCounts:
    """
    Counts reports for the rules of one process. All of it is for one thread.

    @param seconds: a clock that is never set back.
    @param on_forgotten: called when a group is forgotten that was still to be counted.
    """

    def __init__(self, seconds: Callable[[], float], on_forgotten: Callable[[], None] = lambda: None) -> None:
        self._seconds = seconds
        self._on_forgotten = on_forgotten
        self._rules: Mapping[str, RuleCounts] = {}
        self._reports: OrderedDict[ReportId, Sequence[_Counted]] = OrderedDict()
        self._of_no_rule = Tally(self, {}, Traits(), 0.0, None, ())

    def __len__(self) -> int:
        """Return how many groups it knows."""
        return sum(len(counts.groups) for counts in self._rules.values())

    def use(self, rules: Sequence[Rule], workers: int = 1, most: int = MOST_GROUPS) -> None:
        """
        Count for C{rules} from now on. The counts of rules that are the same as before stay.

        @param workers: how many processes share the reports; each has its part of C{first}, rounded up.
        @param most: how many groups it may know.
        """
        counts: dict[str, RuleCounts] = {}
        for rule in rules:
            if rule.rate is not None:
                same = self._rules.get(rule.name)
                if same is None or same.rule != rule:
                    same = RuleCounts(rule, rule.rate, self._on_forgotten)
                same.first = -(-rule.rate.first // workers)
                counts[rule.name] = same
        for each in counts.values():
            each.most = most // len(counts)
        self._rules = counts

    def tally(self, traits: Traits, report_id: ReportId | None = None) -> "Tally":
        """
        Return what counts one report while it is judged.

        @param report_id: the same for a report that comes again, which is then not counted again; None: it would not be
            recognized.
        """
        if not self._rules:
            return self._of_no_rule
        earlier = () if report_id is None else self._reports.get(report_id, ())
        return Tally(self, self._rules, traits, self._seconds(), report_id, earlier)

    def remember(self, report_id: ReportId, tickets: Sequence[_Counted]) -> None:
        """Remember how a report was counted, in case that it comes again."""
        self._reports[report_id] = tickets
        self._reports.move_to_end(report_id)
        if len(self._reports) > _MOST_REPORTS:
            self._reports.popitem(last=False)

    def forget(self, report_id: ReportId) -> None:
        """Take a report, when it comes again, for one that has not come yet."""
        self._reports.pop(report_id, None)


class Tally:
    """A tally counts one report, for each rule with a rate that it comes to while it is judged."""

    __slots__ = ("_counts", "_earlier", "_now", "_report_id", "_rules", "_tickets", "_traits")

    def __init__(
        self,
        counts: RateCounts,
        rules: Mapping[str, RuleCounts],
        traits: Traits,
        now: float,
        report_id: ReportId | None,
        earlier: Sequence[_Counted],
    ) -> None:
        self._counts = counts
        self._rules = rules
        self._traits = traits
        self._now = now
        self._report_id = report_id
        self._earlier = earlier
        self._tickets: list[_Counted] = []

    def count(self, rule: Rule, annotations: Annotations, weight: float = 1) -> Verdict | None:
        """Count it; as L{collectord.throttle.rules.Counted}, but it may count for less than 1."""
        counts = self._rules[rule.name]
        name = counts.name_of(self._traits, annotations)
        if name is None:
            return None
        groups = counts.groups
        group = groups.get(name)
        if group is None or self._now >= group.until:
            group = counts.begin(name, self._now)
        groups.move_to_end(name)
        for _, known, verdict, _, _, seen, kept in self._earlier:
            if known is group:
                return self._add((counts, group, verdict, 0, 0, seen, kept))
        seen = group.seen = group.seen + weight
        if seen >= group.due:
            verdict = counts.let_through(group, weight)
            return self._add((counts, group, verdict, weight, weight, seen, group.kept))
        return self._add((counts, group, rule.above, weight, 0, seen, group.kept))

    def _add(self, ticket: _Counted) -> Verdict:
        self._tickets.append(ticket)
        if self._report_id is not None:
            self._counts.remember(self._report_id, self._tickets)
        return ticket[2]

    @property
    def tickets(self) -> Sequence[Ticket]:
        """How it was counted, in the order of the rules."""
        return [Ticket(*each) for each in self._tickets]

    @property
    def added(self) -> Sequence[tuple[str, bool]]:
        """The names of the rules that had not counted it before, and whether each let it through."""
        return [(verdict.rule, took > 0) for _, _, verdict, added, took, _, _ in self._tickets if added]

    @property
    def sampled(self) -> Mapping[str, float] | None:
        """
        How many reports of its group had been C{seen} and C{kept}, this one included, by the rule that leaves out most.

        @return: None if it was not counted.
        """
        if not self._tickets:
            return None
        ticket = max(self.tickets, key=lambda each: each.seen / max(each.kept, 1))
        return {"seen": ticket.seen, "kept": ticket.kept}

    def rejected(self) -> None:
        """Note that it is not kept. Rules that did not reject it themselves let another one through in its place."""
        for counts, group, verdict, _, took, _, _ in self._tickets:
            if verdict.result in _NOT_REJECTED:
                counts.take_back(group, 0, took)

    def failed(self) -> None:
        """Note that it could not be saved: it is as if it had not come, since it may come again."""
        for counts, group, _, added, took, _, _ in self._tickets:
            counts.take_back(group, added, took)
        if self._report_id is not None:
            self._counts.forget(self._report_id)
