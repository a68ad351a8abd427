"""
The one state at the top of the first page, in three loudnesses: all is well, something needs attention, or crashes are
being lost.
"""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from collectord.admin.format import age, count, number_of, rate, span, when
from collectord.admin.html import Node, h
from collectord.observe.status import Loss, Overview, SinkStatus
from collectord.observe.trouble import Trouble
from collectord.units import size_in_words

LOST = "CRASHES ARE BEING LOST"
"""In capitals, since nothing worse can happen to this daemon."""

_DAY_S = 86400.0


def title(overview: Overview) -> str:
    """Return the title of the first page, which a tab of a browser shows."""
    name = f"collectord {overview.host}".rstrip()
    if overview.loss:
        return f"{LOST} · {name}"
    return f"({len(overview.troubles)}) {name}" if overview.troubles else name


def loss_in_words(loss: Loss, now: float, per_s: float = 0.0) -> str:
    """
    Say since when crashes have been lost, and how many.

    @param per_s: how many more each second; 0: none at the moment.
    """
    more = f", {rate(per_s)} more each second" if per_s >= 0.05 else ""
    return (
        f"No store can keep a crash since {when(loss.since, now)} UTC, {span(now - loss.since)} ago. "
        f"{number_of(loss.refused, 'report was', 'reports were')} answered 503 so far{more}; "
        "most clients don't send again. What was acknowledged before is safe."
    )


def state(overview: Overview, bytes_a_day: float | None) -> Element:
    """
    Make the section.

    @param bytes_a_day: how many bytes are kept on a day; None: not known.
    """
    if overview.loss:
        head = h("h2", h("span", LOST, role="alert"))
        lead = h("p", loss_in_words(overview.loss, overview.now, overview.rates.lost), class_="lead")
        return h("section", head, lead, _troubles(overview), class_="state losing", aria_label="State")
    number = len(overview.troubles)
    if number:
        head = h(
            "h2",
            h("span", f"{number} thing{'s need' if number > 1 else ' needs'} attention", role="status"),
            h("span", " — every crash is still kept, none is lost", class_="rest") if _all_are_kept(overview) else None,
        )
        return h("section", head, _troubles(overview), class_="state attention", aria_label="State")
    facts = h("ul", [h("li", fact) for fact in _facts(overview, bytes_a_day)], class_="facts")
    return h(
        "section", h("h2", h("span", "All is well", role="status")), facts, class_="state calm", aria_label="State"
    )


def _all_are_kept(overview: Overview) -> bool:
    """Whether that can be said: a process takes reports, a store keeps them, and none is left out or answered 503."""
    if overview.pressure or overview.rates.lost:
        return False
    return not all(worker.problem for worker in overview.workers) and not all(s.problem for s in overview.stores)


def _troubles(overview: Overview) -> Element:
    return h("ul", [_trouble(trouble, overview.now) for trouble in overview.troubles], class_="troubles")


def _trouble(trouble: Trouble, now: float) -> Element:
    since = None
    if trouble.since is not None:
        since = h("span", f"since {when(trouble.since, now)}, {span(now - trouble.since)}", class_="since")
    where = h("a", trouble.where, href=f"#{trouble.anchor}") if trouble.anchor else trouble.where
    end = "" if trouble.what.endswith((".", "?")) else "."
    what = f"{trouble.what}{end} {trouble.meanwhile}" if trouble.meanwhile else trouble.what
    return h("li", h("b", where), " ", h("span", what), " ", since, data_key=f"{trouble.where} {trouble.anchor}")


def _facts(overview: Overview, bytes_a_day: float | None) -> Iterator[Node]:
    takes = [store for store in overview.stores if not store.problem]
    yield _fact("stores", f"{len(takes)} of {len(overview.stores)}", " stores take crashes")
    free = [store.free_bytes for store in takes if store.free_bytes is not None]
    if free:
        room = f" free, {_days(sum(free), bytes_a_day)} if nothing could be moved" if bytes_a_day else " free"
        yield _fact("stores", size_in_words(sum(free)), room)
    backlogs = [store.backlog for store in overview.stores if store.backlog is not None]
    if backlogs:
        oldest = max(store.oldest_age_s for store in overview.stores)
        rest = f", the oldest for {age(oldest)}" if any(backlogs) else ""
        yield _fact("stores", count(sum(backlogs)), f" {'waits' if sum(backlogs) == 1 else 'wait'}{rest}")
    if overview.sinks:
        well = sum(not sink.problem for sink in overview.sinks)
        yield _fact("outlets", f"{well} of {len(overview.sinks)}", f" {_kinds(overview.sinks)} take them")
    workers = [*overview.workers, *(overview.movers or ())]
    well = sum(not worker.problem for worker in workers)
    yield _fact("workers", f"{well} of {len(workers)}", f" worker{'' if len(workers) == 1 else 's'}")
    quarantined = [store.quarantined for store in overview.stores if store.quarantined is not None]
    if quarantined:
        yield _fact("stores", count(sum(quarantined)), " in quarantine")


def _kinds(sinks: Sequence[SinkStatus]) -> str:
    publishers = sum(sink.kind == "publisher" for sink in sinks)
    names = ["destinations"] * (publishers < len(sinks)) + ["publishers"] * (publishers > 0)
    return " and ".join(names)


def _days(free: float, bytes_a_day: float) -> str:
    days = free / bytes_a_day
    return "over 10 years" if days > 3652 else number_of(int(days), "day") if days >= 2 else span(days * _DAY_S)


def _fact(anchor: str, number: str, text: str) -> Node:
    return h("a", h("b", number), text, href=f"#{anchor}")
