"""
A flood: a million reports in an hour, nearly all of one bug, judged by the built-in rules "flood".

    python -m benchmarks.flood [--reports 1000000] [--share 0.95] [--bugs 200] [--workers 1] [--rounds 7]

It says how many crashes are kept, whether one is kept of each fingerprint, and how long a decision takes. For a time
that other processes disturb less: chrt --rr 1 python -m benchmarks.flood
"""

import argparse
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median
from time import monotonic, perf_counter

from attrs import frozen

from collectord.throttle import Result, Rule, load_rules, throttle
from collectord.throttle.counts import MOST_GROUPS, RateCounts, Tally
from collectord.throttle.traits import Traits

_MOST_KEPT = 0.01
_LONGEST_US = 1.0
_SAME = 0.94
"""
The share of the crashes of one bug that have its usual fingerprint; the others have one of 200 rarer ones. So two
crashes of one bug have the same in 0.89 of all cases: 0.83 to 0.95 were measured.
"""
_BLOCK = 1000
_TODAY = datetime.now(UTC).date()


def fingerprints(count: int, share: float, bugs: int, chance: random.Random) -> list[str]:
    """
    Make the fingerprints of a flood, in the order in which the reports come.

    @param share: of the reports that are of one bug. The others are of C{bugs} bugs, the second half as often as the
        first, the third a third as often, and so on, and the rarest come once.
    """

    def of_bug(bug: int) -> str:
        variant = 0 if chance.random() < _SAME else min(int(chance.expovariate(1 / 20)), 200) + 1
        return f"1:{bug:08x}{variant:08x}"

    others = round(count * (1 - share))
    drawn = chance.choices(range(1, bugs + 1), [1 / rank for rank in range(1, bugs + 1)], k=others)
    rare = [f"1:{bugs + number:08x}00000000" for number in range(others // 100)]
    made = [of_bug(0) for _ in range(count - others)] + [of_bug(bug) for bug in drawn[len(rare) :]] + rare
    chance.shuffle(made)
    return made


@frozen
class Kept:
    """What became of a flood: how many crashes are kept, and of how many fingerprints none."""

    reports: int
    crashes: int
    fingerprints: int
    without: int


def flood(sent: Sequence[str], rules: Sequence[Rule], workers: int, chance: random.Random) -> Kept:
    """Judge the reports of an hour, by a clock that runs with them."""
    now = 0.0
    processes = [RateCounts(lambda: now) for _ in range(workers)]
    for process in processes:
        process.use(rules, workers)
    kept: Counter[str] = Counter()
    for number, fingerprint in enumerate(sent):
        now = 3600 * number / len(sent)
        tally = chance.choice(processes).tally(Traits(fingerprint=fingerprint))
        if throttle(rules, {}, chance.random, _TODAY, tally.count).result is Result.ACCEPT:
            kept[fingerprint] += 1
    return Kept(len(sent), kept.total(), len(set(sent)), len(set(sent) - set(kept)))


def microseconds(sent: Sequence[str], counts: RateCounts, decide: Callable[[Tally], object]) -> float:
    """Return how long one decision takes: the median of blocks, each without the loop around it."""
    times = []
    for start in range(0, len(sent) - _BLOCK, _BLOCK):
        block = sent[start : start + _BLOCK]
        deciding, nothing = _seconds(decide, _tallies(block, counts)), _seconds(_pass, _tallies(block, counts))
        times.append(deciding - nothing)
    return median(times) * 1e6 / _BLOCK


def _tallies(block: Sequence[str], counts: RateCounts) -> list[Tally]:
    return [counts.tally(Traits(fingerprint=fingerprint)) for fingerprint in reversed(block)]


def _seconds(decide: Callable[[Tally], object], tallies: list[Tally]) -> float:
    """Return how long it takes to decide about all of C{tallies}. Each is gone afterwards, as it is in the daemon."""
    began = perf_counter()
    while tallies:
        decide(tallies.pop())
    return perf_counter() - began


def _pass(tally: Tally) -> None:
    """Do nothing."""


def new_counts(rules: Sequence[Rule]) -> RateCounts:
    counts = RateCounts(monotonic)
    counts.use(rules)
    return counts


def bytes_of_a_full_table(rules: Sequence[Rule]) -> int:
    """Return how many bytes a table takes that can know no more groups."""
    tracemalloc.start()
    counts = new_counts(rules)
    for number in range(MOST_GROUPS + 1000):
        counts.tally(Traits(fingerprint=f"1:{number:016x}")).count(rules[0], {})
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size


def _bar(is_kept: bool) -> str:
    return "kept" if is_kept else "missed"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.95, help="of the reports that are of one bug")
    parser.add_argument("--bugs", type=int, default=200, help="that the others are of")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="of which the best counts: what disturbs only adds")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    chance = random.Random(options.seed)
    rules = load_rules("flood")
    sent = fingerprints(options.reports, options.share, options.bugs, chance)

    result = flood(sent, rules, options.workers, chance)
    share = result.crashes / result.reports
    print(f"{result.reports} reports with {result.fingerprints} fingerprints: {result.crashes} crashes kept")
    print(f"{share:.2%} of them; the bar is {_MOST_KEPT:.0%}: {_bar(share < _MOST_KEPT)}")
    print(f"fingerprints without a crash: {result.without}; the bar is 0: {_bar(not result.without)}")

    flood_rule = rules[0]
    nothing: dict[str, str] = {}

    def counted(tally: Tally) -> object:
        return tally.count(flood_rule, nothing)

    def judged(tally: Tally) -> object:
        return throttle(rules, {}, chance.random, _TODAY, tally.count)

    some = sent[:100_000]
    decisions = sorted(microseconds(some, new_counts(rules), counted) for _ in range(options.rounds))
    whole = sorted(microseconds(some, new_counts(rules), judged) for _ in range(options.rounds))
    new = [f"1:{number:016x}" for number in range(2 * MOST_GROUPS)]
    never_seen = sorted(microseconds(new, new_counts(rules), counted) for _ in range(3))
    print(f"{decisions[0]:.2f} µs a decision ({', '.join(f'{each:.2f}' for each in decisions)}); ", end="")
    print(f"the bar is {_LONGEST_US:g} µs: {_bar(decisions[0] < _LONGEST_US)}")
    print(f"{whole[0]:.2f} µs for all rules; {never_seen[0]:.2f} µs a decision if every fingerprint is new")
    print(f"{bytes_of_a_full_table(rules) / 1e6:.1f} MB for {MOST_GROUPS} groups")


if __name__ == "__main__":
    main(sys.argv[1:])
