"""
What a table of rules says that a rule does.
"""

from collectord.throttle import Always, RateSample, Result, Rule, Sample
from collectord.throttle.rules import Outcome
from collectord.throttle.wording import one_of, result_in_words

ACCEPT, REJECT, DEFER, CONTINUE = Result.ACCEPT, Result.REJECT, Result.DEFER, Result.CONTINUE


def rate(below: Result, every: int | None) -> RateSample:
    return RateSample(per="fingerprint", first=10, every=every, hours=1, below=below, above=REJECT)


def test_what_a_rule_does() -> None:
    words: list[tuple[Outcome, str]] = [
        (ACCEPT, "accept"),
        (Sample(1, ACCEPT, REJECT), "1 of 100 kept"),
        (Sample(10, DEFER, Result.IGNORE), "1 of 10 kept"),
        (Sample(30, ACCEPT, REJECT), "30 % kept"),
        (Sample(0, ACCEPT, REJECT), "0 % kept"),
        (Sample(10, ACCEPT, DEFER), "1 of 10 accept, else defer"),
        (Sample(10, CONTINUE, REJECT), "1 of 10 tried by the next rules, else reject"),
        (rate(ACCEPT, 1000), "the first 10 of each fingerprint in 1 h, then 1 of 1000 kept"),
        (rate(CONTINUE, None), "the first 10 of each fingerprint in 1 h tried by the next rules, else reject"),
    ]
    for outcome, said in words:
        assert result_in_words(Rule("a", "*", Always(), outcome)) == said


def test_a_part() -> None:
    assert [one_of(percent) for percent in (100, 0.1, 100 / 3, 12.34)] == ["1 of 1", "1 of 1000", "1 of 3", "12.34 %"]
