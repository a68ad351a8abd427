from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import date

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st

from collectord.model import Annotations, CrashFacts
from collectord.throttle import Always, Equals, RateSample, Result, Rule, Verdict, throttle
from collectord.throttle.counts import RateCounts, Tally
from collectord.throttle.traits import Traits
from tests.support.cases import for_each

TODAY = date(2024, 3, 1)
RATE = RateSample(per="fingerprint", first=3, every=5, hours=1, below=Result.CONTINUE, above=Result.REJECT)
REST = Rule("rest", "*", Always(), Result.ACCEPT)


def by(rate: RateSample = RATE, name: str = "flood") -> Rule:
    return Rule(name, "*", Always(), rate)


@define
class Rig:
    """Judges reports by rules with rates."""

    rules: Sequence[Rule] = (by(), REST)
    now: float = 100.0
    forgotten: int = 0
    counts: RateCounts = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = RateCounts(lambda: self.now, self._forget)
        self.counts.use(self.rules)

    def _forget(self) -> None:
        self.forgotten += 1

    def tally(
        self, fingerprint: str | None = "1:a", annotations: Annotations | None = None, report_id: str | None = None
    ) -> tuple[Verdict, Tally]:
        tally = self.counts.tally(Traits(fingerprint=fingerprint), report_id)
        return throttle(self.rules, annotations or {}, no_chance, TODAY, tally.count), tally

    def judge(self, fingerprint: str | None = "1:a", **annotations: str) -> Verdict:
        return self.tally(fingerprint, annotations)[0]

    def is_kept(self, fingerprint: str | None = "1:a", **annotations: str) -> bool:
        return self.judge(fingerprint, **annotations).result is Result.ACCEPT

    def kept_of(self, reports: int, fingerprint: str | None = "1:a") -> list[int]:
        """The numbers, from 1, of those that are kept of so many equal reports."""
        return [number for number in range(1, reports + 1) if self.is_kept(fingerprint)]


def no_chance() -> float:
    raise AssertionError("no rule here takes a sample")


# ——— how many are let through ———


def test_the_first_and_then_one_of_many() -> None:
    assert Rig().kept_of(20) == [1, 2, 3, 8, 13, 18]


def test_the_numbers_of_the_built_in_set() -> None:
    rate = evolve(RATE, first=10, every=1000)
    assert Rig([by(rate), REST]).kept_of(3000) == [*range(1, 11), 1010, 2010]


def test_without_every_none_is_let_through_after_the_first() -> None:
    assert Rig([by(evolve(RATE, every=None)), REST]).kept_of(5000) == [1, 2, 3]


def test_every_report_can_be_let_through() -> None:
    assert Rig([by(evolve(RATE, every=1)), REST]).kept_of(7) == [1, 2, 3, 4, 5, 6, 7]


def test_counting_begins_anew_when_the_hours_are_over() -> None:
    rig = Rig()
    assert rig.kept_of(6) == [1, 2, 3]
    rig.now += 3599.9
    assert rig.kept_of(1) == []
    rig.now += 0.1
    assert rig.kept_of(6) == [1, 2, 3]


def test_what_a_verdict_says() -> None:
    rule = by(evolve(RATE, below=Result.ACCEPT, above=Result.DEFER))
    rig = Rig([rule])
    verdicts = [rig.judge() for _ in range(8)]
    assert verdicts[0] == verdicts[2] == Verdict(Result.ACCEPT, "flood", 100)
    assert verdicts[3] == verdicts[6] == Verdict(Result.DEFER, "flood", 100)
    assert verdicts[7] == Verdict(Result.ACCEPT, "flood", 20)


def test_each_process_has_its_part_of_the_first_rounded_up() -> None:
    kept = []
    for workers in (1, 2, 3, 8):
        rig = Rig()
        rig.counts.use(rig.rules, workers)
        kept.append(rig.kept_of(9))
    assert kept == [[1, 2, 3, 8], [1, 2, 7], [1, 6], [1, 6]]


# ——— what is counted together ———


def test_groups_are_counted_apart() -> None:
    rig = Rig()
    assert rig.kept_of(5, "1:a") == [1, 2, 3]
    assert rig.kept_of(5, "1:b") == [1, 2, 3]
    assert rig.kept_of(2, "1:a") == []


def test_a_report_without_it_does_not_match() -> None:
    rig = Rig()
    assert rig.kept_of(100, None) == list(range(1, 101))
    assert len(rig.counts) == 0


@for_each("trait", ["fingerprint", "place", "address", "key"])
def test_each_trait(trait: str) -> None:
    rules = [by(evolve(RATE, per=trait)), REST]
    rig = Rig(rules)
    for value, results in (("x", "AAAR"), ("y", "AAAR"), (None, "AAAAAA")):
        for result in results:
            tally = rig.counts.tally(Traits(**{trait: value}))
            assert throttle(rules, {}, no_chance, TODAY, tally.count).result.name[0] == result


def test_several_count_together_if_all_of_them_are_the_same() -> None:
    rig = Rig([by(evolve(RATE, per=["fingerprint", "ProductName", "Version"], first=1, every=None)), REST])
    assert rig.is_kept("1:a", ProductName="x", Version="1")
    assert rig.is_kept("1:b", ProductName="x", Version="1")
    assert rig.is_kept("1:a", ProductName="y", Version="1")
    assert rig.is_kept("1:a", ProductName="x", Version="")
    assert not rig.is_kept("1:a", ProductName="x", Version="1")
    assert not rig.is_kept("1:a", ProductName="x", Version="")
    for _ in range(3):
        assert rig.is_kept("1:a", ProductName="x")
        assert rig.is_kept(None, ProductName="x", Version="1")


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_characters="\0"), max_size=80)] * 2), unique=True))
def test_different_values_are_never_counted_together(values: list[tuple[str, str]]) -> None:
    rig = Rig([by(evolve(RATE, per=["a", "b"], first=1, every=None)), REST])
    assert all(rig.is_kept(a=a, b=b) for a, b in values)
    assert not any(rig.is_kept(a=a, b=b) for a, b in values)


def test_long_values_take_little_room() -> None:
    rig = Rig([by(evolve(RATE, per=["a"], first=1, every=None)), REST])
    assert rig.is_kept(a="x" * 100_000 + "\ud800")
    assert rig.is_kept(a="x" * 100_000 + "\ud801")
    assert not rig.is_kept(a="x" * 100_000 + "\ud800")
    digest_of_long = next(iter(rig.counts._rules["flood"].groups))
    assert len(digest_of_long) == 64
    assert rig.is_kept(a=digest_of_long)


def test_what_the_traits_of_a_report_are() -> None:
    facts = CrashFacts(fingerprint="1:0123456789abcdef", place="p" * 1000)
    traits = Traits.of({"key": "", "token": "t", "api_key": "k"}, facts, "192.0.2.1")
    assert (traits.fingerprint, traits.address, traits.key) == ("1:0123456789abcdef", "192.0.2.1", "k")
    assert len(traits.place or "") == 64
    assert Traits.of({"key": ""}, None, None) == Traits()
    assert Traits.of({}, CrashFacts(fingerprint="", place=""), None) == Traits()


# ——— what is forgotten or new is always kept ———


def counted_by_hand(reports: Sequence[int], most: int, first: int, every: int) -> list[bool]:
    """Which of these reports are let through, by the plainest table of the groups that came most lately."""
    seen: OrderedDict[int, int] = OrderedDict()
    kept = []
    for group in reports:
        number = seen.pop(group, 0) + 1
        seen[group] = number
        while len(seen) > most:
            seen.popitem(last=False)
        kept.append(number <= first or (number - first) % every == 0)
    return kept


@given(
    st.lists(st.integers(0, 8), max_size=200),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_the_group_that_came_least_lately_is_forgotten_and_no_other(
    reports: list[int], most: int, first: int, every: int
) -> None:
    rig = Rig([by(evolve(RATE, first=first, every=every)), REST])
    rig.counts.use(rig.rules, most=most)
    assert [rig.is_kept(str(group)) for group in reports] == counted_by_hand(reports, most, first, every)
    assert len(rig.counts) == min(most, len(set(reports)))


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 6))
def test_what_is_forgotten_or_new_is_always_kept(reports: list[int], most: int) -> None:
    rig = Rig()
    rig.counts.use(rig.rules, most=most)
    lately: list[int] = []
    for group in reports:
        is_new = group not in lately[-most:]
        assert rig.is_kept(str(group)) or not is_new
        lately = [*(each for each in lately if each != group), group]


def test_it_is_told_when_a_group_is_forgotten_that_was_still_counted() -> None:
    rig = Rig()
    rig.counts.use(rig.rules, most=2)
    for group in "abcd":
        rig.judge(group)
    assert rig.forgotten == 2
    rig.now += 3600
    rig.judge("e")
    assert rig.forgotten == 2


def test_rules_share_the_room_so_that_none_takes_that_of_another() -> None:
    addresses = by(evolve(RATE, per=["Address"], first=1, every=None), "addresses")
    rig = Rig([addresses, by(evolve(RATE, first=1, every=None)), REST])
    rig.counts.use(rig.rules, most=4)
    assert rig.is_kept("1:a", Address="0")
    for number in range(100):
        rig.judge("1:b", Address=str(number))
    assert not rig.is_kept("1:a", Address="fresh")
    assert len(rig.counts) == 4


# ——— what uses up nothing ———


def test_what_another_rule_rejects_uses_up_nothing() -> None:
    rig = Rig([by(), Rule("no_x", "a", Equals("x"), Result.REJECT), REST])
    for _ in range(10):
        verdict, tally = rig.tally(annotations={"a": "x"})
        assert verdict.rule == "no_x"
        tally.rejected()
    assert rig.kept_of(4) == [1, 2, 3]
    _, tally = rig.tally()
    assert tally.sampled == {"seen": 15, "kept": 3}


def test_what_the_rule_itself_rejects_counts() -> None:
    rig = Rig([by(evolve(RATE, below=Result.REJECT, above=Result.ACCEPT))])
    results = []
    for _ in range(5):
        verdict, tally = rig.tally()
        results.append(verdict.result.name)
        if verdict.result is Result.REJECT:
            tally.rejected()
    assert results == ["REJECT", "REJECT", "REJECT", "ACCEPT", "ACCEPT"]


def test_what_is_not_saved_is_as_if_it_had_not_come() -> None:
    rig = Rig()
    for _ in range(10):
        rig.tally()[1].failed()
    kept = [rig.tally() for _ in range(4)]
    assert [tally.sampled for _, tally in kept][-1] == {"seen": 4, "kept": 3}
    kept[1][1].failed()
    assert rig.kept_of(2) == [1]


def test_one_of_many_that_is_not_saved_leaves_its_place_to_the_next() -> None:
    rig = Rig()
    assert rig.kept_of(7) == [1, 2, 3]
    verdict, tally = rig.tally()
    assert verdict.result is Result.ACCEPT
    assert rig.kept_of(1) == []
    tally.failed()
    assert rig.kept_of(6) == [1, 6]


def test_a_failure_that_is_told_late_spoils_no_new_count() -> None:
    rig = Rig()
    _, tally = rig.tally()
    rig.now += 3600
    assert rig.kept_of(4) == [1, 2, 3]
    tally.failed()
    assert rig.kept_of(2) == []


# ——— the same report again ———


def test_a_report_that_comes_again_is_not_counted_again() -> None:
    rig = Rig()
    first = [rig.tally(report_id=f"r{number}") for number in range(5)]
    for _ in range(10):
        again = [rig.tally(report_id=f"r{number}") for number in range(5)]
        assert [verdict for verdict, _ in again] == [verdict for verdict, _ in first]
        assert [tally.sampled for _, tally in again] == [tally.sampled for _, tally in first]
    _, tally = rig.tally()
    assert tally.sampled == {"seen": 6, "kept": 3}


def test_one_that_comes_again_takes_nothing_back() -> None:
    rig = Rig()
    rig.tally(report_id="r")
    rig.tally(report_id="r")[1].rejected()
    rig.tally(report_id="r")[1].failed()
    _, tally = rig.tally()
    assert tally.sampled == {"seen": 2, "kept": 2}


def test_one_that_was_not_saved_counts_when_it_comes_again() -> None:
    rig = Rig()
    rig.tally(report_id="r")[1].failed()
    assert [rig.tally(report_id="r")[1].sampled for _ in range(2)] == [{"seen": 1, "kept": 1}] * 2
    assert rig.tally()[1].sampled == {"seen": 2, "kept": 2}


def test_one_that_comes_again_when_the_hours_are_over_is_new() -> None:
    rig = Rig()
    rig.kept_of(3)
    assert rig.tally(report_id="r")[0].result is Result.REJECT
    rig.now += 3600
    assert rig.tally(report_id="r")[0].result is Result.ACCEPT


def test_one_that_comes_again_when_its_group_is_forgotten_is_new() -> None:
    rig = Rig()
    rig.counts.use(rig.rules, most=1)
    rig.kept_of(3)
    assert rig.tally(report_id="r")[0].result is Result.REJECT
    rig.judge("1:b")
    assert rig.tally(report_id="r")[0].result is Result.ACCEPT


def test_for_each_of_two_rules_it_is_known_how_a_report_was_counted() -> None:
    rig = Rig([by(), by(evolve(RATE, per=["a"], first=1, every=None), "second"), REST])
    first = [rig.tally(annotations={"a": "x"}, report_id=f"r{number}") for number in range(2)]
    again = [rig.tally(annotations={"a": "x"}, report_id=f"r{number}") for number in range(2)]
    assert [verdict.rule for verdict, _ in first] == [verdict.rule for verdict, _ in again] == ["rest", "second"]
    assert [ticket.added for _, tally in again for ticket in tally.tickets] == [0, 0, 0, 0]


def test_only_so_many_reports_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.throttle.counts._MOST_REPORTS", 2)
    rig = Rig()
    for report_id in "abac":
        rig.tally(report_id=report_id)
    assert rig.tally(report_id="a")[1].sampled == {"seen": 1, "kept": 1}
    assert rig.tally(report_id="b")[1].sampled == {"seen": 4, "kept": 3}


# ——— other rules ———


def changed_first(rule: Rule) -> Rule:
    return evolve(rule, outcome=evolve(RATE, first=4))


def changed_condition(rule: Rule) -> Rule:
    return Rule("flood", "a", Equals("x"), RATE)


@for_each("changed", [changed_first, changed_condition])
def test_a_reload_keeps_the_counts_of_rules_that_did_not_change(changed: Callable[[Rule], Rule]) -> None:
    rig = Rig()
    assert rig.kept_of(4) == [1, 2, 3]
    rig.rules = (Rule("new", "b", Equals("x"), Result.REJECT), by(), REST)
    rig.counts.use(rig.rules)
    assert rig.kept_of(4) == [4]
    rig.rules = (changed(by()), REST)
    rig.counts.use(rig.rules)
    assert rig.is_kept(a="x")


def test_a_report_that_was_being_judged_at_a_reload_is_counted() -> None:
    rig = Rig()
    tally = rig.counts.tally(Traits(fingerprint="1:a"))
    rig.counts.use((REST,))
    assert throttle(rig.rules, {}, no_chance, TODAY, tally.count) == REST.below
    tally.failed()


def test_what_goes_with_a_crash_is_of_the_rule_that_leaves_out_most() -> None:
    rig = Rig([by(), by(evolve(RATE, per=["a"], first=1, every=2), "second"), REST])
    assert rig.tally(None)[1].sampled is None
    samples = [rig.tally(annotations={"a": "x"})[1].sampled for _ in range(3)]
    assert samples == [{"seen": 1, "kept": 1}, {"seen": 2, "kept": 1}, {"seen": 3, "kept": 2}]
