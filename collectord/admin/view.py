"""
Turns the state of a daemon, or a crash, into the texts that the pages show.
"""

from collections.abc import Iterator, Mapping

from collectord.admin.format import count, moment, rate, share, size, span, time_of_day
from collectord.admin.templating import Row, Values, sanitized
from collectord.observe.crashpage import CrashPage
from collectord.observe.status import (
    AnswerCount,
    Loss,
    Overview,
    Recent,
    RuleCount,
    SinkStatus,
    StoreStatus,
    WorkerStatus,
)

MAX_ANNOTATIONS = 1000
MAX_VALUE = 5000
MAX_NAME = 200
"""The most annotations, and the most characters of a value and of a name, that are shown. The JSON has all of them."""

LOST = "CRASHES ARE BEING LOST"
"""In capitals, since nothing worse can happen to this daemon."""

NOT_KNOWN = "not known"
_NOTHING = "—"
_RATES = ("received", "kept", "refused", "moved", "bytes_in")


def overview_values(overview: Overview) -> Values:
    """Return the values for C{overview.html}."""
    rates, totals = overview.rates, overview.totals
    loss = overview.loss
    number = len(overview.troubles)
    summary = f"{number} thing{'s need' if number > 1 else ' needs'} attention" if number else "All is well"
    answers = sum(answer.count for answer in overview.answers)
    return sanitized(
        {
            "title": f"{LOST} · collectord" if loss else f"({number}) collectord" if number else "collectord",
            "version": overview.version,
            "now": f"{moment(overview.now)} UTC",
            "up": span(overview.now - overview.started),
            "summary": LOST if loss else summary,
            "state": "state losing" if loss else "state bad" if number else "state good",
            "lead": loss_in_words(loss, overview.now) if loss else "",
            "troubles": [_trouble(trouble.where, trouble.what) for trouble in overview.troubles],
            **{f"{name}_rate": rate(getattr(rates, name)) for name in _RATES[:-1]},
            "bytes_in_rate": rate(rates.bytes_in / 1e6),
            **{f"{name}_total": _total(totals, name) for name in _RATES},
            "facts": [
                {"key": name, "name": name.replace("_", " "), "value": count(value)} for name, value in _facts(overview)
            ],
            "stores": [_store(store) for store in overview.stores],
            "sinks": [_sink(sink) for sink in overview.sinks],
            "cautions": list(_cautions(overview)),
            "no_sinks": "" if overview.sinks else "None is set: crashes stay in their stores.",
            "answers": [_answer(answer, answers) for answer in overview.answers],
            "no_answers": "" if overview.answers else "None yet.",
            "rules": [_rule(at, rule) for at, rule in enumerate(overview.rules, 1)],
            "no_rules": "" if overview.rules else "None.",
            "workers": [_worker(worker, overview.now) for worker in overview.workers],
            "recent": [_recent(crash) for crash in overview.recent],
            "no_recent": "" if overview.recent else "No crash has come since the start.",
        }
    )


def loss_in_words(loss: Loss, now: float) -> str:
    """Say since when crashes have been lost, and how many."""
    return (
        f"No store has been able to keep a crash since {moment(loss.since)} UTC, {span(now - loss.since)} ago. "
        f"{count(loss.refused)} report{' was' if loss.refused == 1 else 's were'} answered 503 so far; "
        "most clients don't send again. What was acknowledged before is safe."
    )


def _cautions(overview: Overview) -> Iterator[Row]:
    for store in overview.stores:
        for caution in store.cautions:
            yield _trouble(f"Store {store.name}", caution)
    for sink in overview.sinks:
        for caution in sink.cautions:
            yield _trouble(f"{sink.kind.capitalize()} {sink.name}", caution)


def _trouble(where: str, what: str) -> Row:
    return {"key": f"{where} {what}", "where": where, "what": what}


def _total(totals: Mapping[str, int], name: str) -> str:
    if name not in totals:
        return ""
    return f"{size(totals[name]) if name == 'bytes_in' else count(totals[name])} in all"


def _facts(overview: Overview) -> Iterator[tuple[str, int]]:
    yield "open_connections", overview.connections
    yield "being_received", overview.receiving
    yield "being_kept", overview.saving
    yield "being_moved", overview.moving
    for name, value in overview.totals.items():
        if name not in _RATES:
            yield name, value


def _store(store: StoreStatus) -> Row:
    return {
        "key": store.name,
        "name": store.name,
        "state": store.problem or "takes crashes",
        "level": "bad" if store.problem else "good",
        "free": NOT_KNOWN if store.free_bytes is None else size(store.free_bytes),
        "min_free": size(store.min_free_bytes),
        "backlog": _NOTHING if store.backlog is None else count(store.backlog),
        "oldest": span(store.oldest_age_s) if store.backlog or store.oldest_age_s else _NOTHING,
        "quarantined": NOT_KNOWN if store.quarantined is None else count(store.quarantined),
        "quarantine_level": "number bad" if store.quarantined else "number",
    }


def _sink(sink: SinkStatus) -> Row:
    return {
        "key": f"{sink.kind} {sink.name}",
        "name": sink.name,
        "kind": sink.kind,
        "state": sink.problem or "takes crashes",
        "level": "bad" if sink.problem else "good",
        "given": count(sink.given),
        "failures": count(sink.failures),
        "resumes": span(sink.resumes_in_s) if sink.resumes_in_s > 0 else _NOTHING,
    }


def _answer(answer: AnswerCount, all_answers: int) -> Row:
    return {
        "key": f"{answer.status} {answer.reason}",
        "status": answer.status,
        "reason": answer.reason,
        "count": count(answer.count),
        "share": share(answer.count, all_answers),
    }


def _rule(at: int, rule: RuleCount) -> Row:
    results = ", ".join(f"{result} {count(number)}" for result, number in rule.results.items())
    return {
        "key": f"{at} {rule.name}",
        "at": str(at),
        "name": rule.name,
        "condition": rule.condition,
        "count": count(sum(rule.results.values())),
        "results": results or _NOTHING,
    }


def _worker(worker: WorkerStatus, now: float) -> Row:
    return {
        "key": str(worker.pid),
        "pid": str(worker.pid),
        "since": f"{moment(worker.since)} UTC",
        "up": span(now - worker.since),
        "state": worker.problem or "takes submissions",
        "level": "bad" if worker.problem else "good",
    }


def _recent(crash: Recent) -> Row:
    return {
        "key": crash.crash_id,
        "crash_id": crash.crash_id,
        "href": f"crashes/{crash.crash_id}",
        "at": time_of_day(crash.at),
        "product": crash.product[:MAX_NAME],
        "version": crash.version[:MAX_NAME],
        "size": size(crash.size),
        "rule": crash.rule,
        "state": crash.state,
        "level": "bad" if crash.state == "quarantined" else "",
        "where": crash.where,
    }


def crash_values(crash: CrashPage) -> Values:
    """Return the values for C{crash.html}."""
    annotations = crash.annotations or {}
    names = sorted(annotations, key=lambda name: (name.lower(), name))
    elsewhere = ""
    if crash.annotations is None:
        was_moved = any(event.what == "moved" for event in crash.events)
        elsewhere = f"Not here any more{f': collectord fetch {crash.crash_id} brings it back' if was_moved else ''}."
    more = len(names) - MAX_ANNOTATIONS
    return sanitized(
        {
            "title": f"{crash.crash_id} · collectord",
            "crash_id": crash.crash_id,
            "json": f"{crash.crash_id}.json",
            "places": [{"store": place.store, "state": place.state} for place in crash.places],
            "no_places": "" if crash.places else "In no store any more.",
            "dumps": [
                {
                    "name": dump.name,
                    "size": size(dump.size),
                    "bytes": count(dump.size),
                    "sha256": dump.expected or _NOTHING,
                }
                for dump in crash.dumps
            ],
            "no_dumps": "" if crash.dumps else elsewhere or "None.",
            "events": [
                {"at": f"{moment(event.at)} UTC", "what": event.what, "where": event.place or event.where}
                for event in crash.events
            ],
            "no_events": "" if crash.events else "Nothing is recorded.",
            "facts": [_annotation(name, value) for name, value in crash.facts.items()],
            "no_facts": "" if crash.facts else "None.",
            "annotations": [_annotation(name, annotations[name]) for name in names[:MAX_ANNOTATIONS]],
            "annotation_count": count(len(names)) if names else "",
            "no_annotations": "" if names else elsewhere or "None.",
            "more_annotations": f"{count(more)} more {'is' if more == 1 else 'are'} in the JSON." if more > 0 else "",
        }
    )


def _annotation(name: str, value: str) -> Row:
    more = len(value) - MAX_VALUE
    return {
        "name": name[:MAX_NAME],
        "value": value[:MAX_VALUE],
        "more": f"… {count(more)} more character{' is' if more == 1 else 's are'} in the JSON." if more > 0 else "",
    }
