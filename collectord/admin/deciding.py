"""
How it is decided what is kept: the throttle rules, the answers to clients, and the processes that give them.
"""

from xml.etree.ElementTree import Element

from collectord.admin.format import age, count, share, span
from collectord.admin.html import h
from collectord.admin.tables import Cell, Column, Row, section, table
from collectord.observe.status import AnswerCount, Overview, RuleCount, WorkerStatus

_RULES = [
    Column(head="#", style="n", cells="ordinal"),
    Column(head="Rule", is_head=True),
    Column(head="Condition", cells="text"),
    Column(head="Decided", style="n", label="decided"),
    Column(head="Results", cells="text"),
]
_ANSWERS = [
    Column(head="Status", style="n"),
    Column(head="Reason", cells="text", is_head=True),
    Column(head="Count", style="n"),
    Column(head="Share", style="n"),
]
_WORKERS = [
    Column(head="Process", style="n", is_head=True),
    Column(head="State", cells="text"),
    Column(head="Up", style="n"),
]


def deciding(overview: Overview) -> Element:
    """Make the three sections side by side."""
    return h("div", _rules(overview), _answers(overview), _workers(overview), class_="columns rules")


def _rules(overview: Overview) -> Element:
    rows = [_rule(at, rule) for at, rule in enumerate(overview.rules, 1)]
    shown = table("Throttle rules in the order in which they are tried, and how often each decided", _RULES, rows)
    return section("rules", "Rules", shown, aside="the first that matches decides")


def _rule(at: int, rule: RuleCount) -> Row:
    decided = sum(rule.results.values())
    results = ", ".join(f"{result} {count(number)}" for result, number in rule.results.items())
    decided_cell = Cell(count(decided), "" if decided else "zero")
    return Row(f"{at} {rule.name}", [str(at), rule.name, rule.condition, decided_cell, results])


def _answers(overview: Overview) -> Element:
    if not overview.answers:
        return section("answers", "Answers", h("p", "None yet.", class_="note"))
    total = sum(answer.count for answer in overview.answers)
    rows = [_answer(answer, total) for answer in sorted(overview.answers, key=lambda answer: answer.status != "503")]
    shown = table("Answers to reports since the start, by status and reason", _ANSWERS, rows, "small")
    return section("answers", "Answers", shown, aside=f"since the start, {age(overview.now - overview.started)} ago")


def _answer(answer: AnswerCount, total: int) -> Row:
    reason = answer.reason.replace("_", " ")
    is_lost = answer.status == "503"
    name = h("b", reason, class_="bad") if is_lost else reason
    return Row(
        f"{answer.status} {answer.reason}", [answer.status, name, count(answer.count), share(answer.count, total)]
    )


def _workers(overview: Overview) -> Element:
    rows = [_worker(worker, "takes reports", overview.now) for worker in overview.workers]
    rows += [_worker(mover, "moves crashes", overview.now) for mover in overview.movers or ()]
    return section("workers", "Workers", table("Processes, and what they do", _WORKERS, rows, "small"))


def _worker(worker: WorkerStatus, work: str, now: float) -> Row:
    state = h("b", worker.problem, class_="bad") if worker.problem else h("span", work, class_="good")
    return Row(str(worker.pid), [str(worker.pid), state, span(now - worker.since)])
