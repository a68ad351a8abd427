"""
How it is decided what is kept: the throttle rules, the answers to clients, and the processes that give them.
"""

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from collectord.admin.format import count, rate, share, span
from collectord.admin.html import Node, group, h, quiet
from collectord.admin.tables import Cell, Column, Row, section, table
from collectord.index.day import DayCounts
from collectord.observe.status import Overview, RuleCount, WorkerStatus

_DAY_S = 86400.0
_RULES = [
    Column(head="#", style="n", cells="ordinal"),
    Column(head="Rule", is_head=True),
    Column(head="Condition", cells="text"),
    Column(head="Decided 24 h", style="n", label="24 h"),
    Column(head="Result", cells="text"),
]
_ANSWERS = [
    Column(head="Status", style="n"),
    Column(head="Reason", cells="text", is_head=True),
    Column(head="In 24 h", style="n"),
    Column(head="Share", style="n"),
]
_WORKERS = [
    Column(head="Process", is_head=True),
    Column(head="State", cells="text"),
    Column(head="Reports /s", style="n"),
    Column(head="Up", style="n"),
]


def deciding(overview: Overview, counted: DayCounts) -> Element:
    """
    Make the three sections side by side.

    @param counted: what was counted in the last 24 hours.
    """
    return h("div", _rules(overview, counted), _answers(counted), _workers(overview), class_="columns rules")


def counted_for(counted: DayCounts) -> str | None:
    """
    Say for how much of the 24 hours the daemon has counted.

    @return: None if for nearly all: the present hour is not over, and an hour of a stop is not worth a word.
    """
    return None if counted.seconds > _DAY_S - 2 * 3600 else f"counted for {span(counted.seconds)} of 24 h"


def _rules(overview: Overview, counted: DayCounts) -> Element:
    results: dict[str, dict[str, float]] = {}
    for (rule, result), number in counted.of("rule").items():
        results.setdefault(rule, {})[result.lower()] = number
    known = {rule.name for rule in overview.rules}
    gone = [RuleCount(name=name, condition="", results={}) for name in results if name not in known]
    rows = [_rule(at, rule, results.get(rule.name, {})) for at, rule in enumerate([*overview.rules, *gone], 1)]
    shown = table("Throttle rules in the order in which they are tried, and how often each decided", _RULES, rows)
    said = ", ".join(filter(None, ("the first that matches decides", counted_for(counted))))
    return section("rules", "Rules", shown, aside=said)


def _rule(at: int, rule: RuleCount, results: Mapping[str, float]) -> Row:
    decided = sum(results.values())
    parts = ", ".join(f"{result} {count(number)}" for result, number in results.items())
    said = parts if len(results) > 1 or not rule.outcome else ""
    outcome: Node = group(rule.outcome or None, " " if rule.outcome and said else None, quiet(said) if said else None)
    decided_cell = Cell(count(decided), "" if decided else "zero")
    return Row(f"{at} {rule.name}", [str(at), rule.name, rule.condition, decided_cell, outcome])


def _answers(counted: DayCounts) -> Element:
    answers = counted.of("answer")
    if not answers:
        return section("answers", "Answers", h("p", "None in 24 h.", class_="note"))
    total = sum(answers.values())
    in_order = sorted(answers.items(), key=lambda each: (each[0][0] != "503", each[0][0], -each[1]))
    rows = [_answer(status, reason, number, total) for (status, reason), number in in_order]
    shown = table("Answers to reports in 24 hours, by status and reason", _ANSWERS, rows, "small")
    return section("answers", "Answers", shown, aside=counted_for(counted))


def _answer(status: str, reason: str, number: float, total: float) -> Row:
    words = reason.replace("_", " ")
    name = h("b", words, class_="bad") if status == "503" else words
    return Row(f"{status} {reason}", [status, name, count(number), share(number, total)])


def _workers(overview: Overview) -> Element:
    rows = [_worker(worker, "takes reports", _received(worker), overview.now) for worker in overview.workers]
    rows += [_worker(mover, "moves crashes", Cell("—", "zero"), overview.now) for mover in overview.movers or ()]
    return section("workers", "Workers", table("Processes, and what they do", _WORKERS, rows, "small"))


def _received(worker: WorkerStatus) -> Node:
    return quiet("not known") if worker.per_s is None else rate(worker.per_s)


def _worker(worker: WorkerStatus, work: str, received: Node | Cell, now: float) -> Row:
    state = h("b", worker.problem, class_="bad") if worker.problem else h("span", work, class_="good")
    return Row(str(worker.pid), [worker.in_words, state, received, span(now - worker.since)])
