"""
The way of a crash through the collector, one line for each thing that happened, and how long that took.
"""

from collections.abc import Collection, Iterator, Sequence
from xml.etree.ElementTree import Element

from collectord.admin.format import count, day, iso, milliseconds, number_of, span, time_of_day
from collectord.admin.html import Node, h, quiet
from collectord.admin.tables import section
from collectord.observe.crashpage import CrashPage, JournalEntry
from collectord.observe.status import SinkStatus

WAITS = "waits to be moved"


def way(crash: CrashPage, now: float, sinks: Sequence[SinkStatus]) -> Element:
    """
    Make the section.

    @param sinks: the destinations and publishers, which may be what the crash waits for.
    """
    if not crash.events:
        return section("way", "Its way", h("p", "Nothing is recorded.", class_="note"))
    days = {day(event.at) for event in crash.events}
    aside_in = {event.where for event in crash.events if event.what == "quarantined"}
    steps = [step for event in crash.events for step in _steps(event, aside_in, is_alone=len(days) == 1)]
    waits = [WAITS] if any(place.state == WAITS for place in crash.places) else []
    steps += [_line("now", now, [h("b", text), " ", list(_away(crash, sinks))]) for text in waits]
    aside = f"{min(days)}, UTC" if len(days) == 1 else "UTC"
    return section("way", "Its way", h("ol", steps, class_="way"), aside=aside)


def _away(crash: CrashPage, sinks: Sequence[SinkStatus]) -> Iterator[Node]:
    """Say which destinations do not take the crash now."""
    have_it = [event.where for event in crash.events if event.what == "moved"]
    for sink in sinks:
        if sink.kind == "destination" and sink.problem and sink.name not in have_it:
            again = f"; tried again in {span(sink.resumes_in_s)}" if sink.resumes_in_s >= 1 else ""
            yield [h("span", f"{sink.name}: {sink.problem}{again}", class_="quiet bad"), " "]


def _steps(event: JournalEntry, aside_in: Collection[str], *, is_alone: bool) -> Iterator[Element]:
    """A crash that is kept was received before it was saved, and one that is moved may have been in a quarantine."""
    details = event.details
    if event.what == "kept" and details.received_ms is not None:
        received = event.at - (details.took_ms or 0) / 1000
        yield _line(_time(received, is_alone), received, f"received in {milliseconds(details.received_ms)}")
    is_released = event.what == "moved" and event.where in aside_in
    what: Node = h("b", f"released into {event.where}") if is_released else list(_what(event))
    yield _line(_time(event.at, is_alone), event.at, what)


def _time(at: float, is_alone: bool) -> str:
    return time_of_day(at) if is_alone else f"{day(at)[:-5]} {time_of_day(at)[:5]}"


def _line(time: str, at: float, what: Node) -> Element:
    return h("li", h("time", time, datetime=iso(at)), " ", h("span", what))


def _what(event: JournalEntry) -> Iterator[Node]:
    took = _took(event)
    if event.what == "kept":
        yield f"kept in {event.where}, CrashID answered "
        if event.rule:
            yield [quiet(f"by rule {event.rule}{_sample(event)}"), " "]
        if took:
            yield quiet(f"durable after {took}")
    elif event.what == "moved":
        yield f"moved to {event.where} "
        if event.place and event.place != event.where:
            yield [quiet(event.place), " "]
        if took:
            yield quiet(f"{took}{_tries(event)}")
    elif event.what == "published":
        yield f"published to {event.where} "
        if event.place:
            yield [quiet(event.place), " "]
        if took:
            yield quiet(f"confirmed after {took}{_tries(event)}")
    elif event.what == "quarantined":
        yield [h("b", f"put into the quarantine of {event.where}", class_="bad"), " "]
        if event.place:
            yield quiet(event.place)
    elif event.what == "removed":
        yield h("b", f"removed from {event.where}")
    elif event.what == "expired":
        yield [h("b", f"removed from {event.where}"), " ", quiet(_why_expired(event.place))]
    elif event.what == "erased":
        yield h("b", f"erased from {event.where}" if event.where else "erased")
    elif event.what == "duplicate":
        yield "came again, not stored once more"
    else:
        yield f"{event.what} {event.where}"


def _why_expired(place: str) -> str:
    """Say what wanted it so: a setting, or somebody."""
    return place if place.startswith("by ") else f"by {place}" if place else "too old"


def _took(event: JournalEntry) -> str:
    return "" if event.details.took_ms is None else milliseconds(event.details.took_ms)


def _sample(event: JournalEntry) -> str:
    seen, kept = event.details.seen, event.details.kept
    return "" if seen is None or kept is None else f"; {count(seen)} of its kind so far, {count(kept)} kept"


def _tries(event: JournalEntry) -> str:
    failures = event.details.failures
    return f", after {number_of(failures, 'try', 'tries')} that failed" if failures else ""
