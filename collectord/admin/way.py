"""
The way of a crash through the collector, one line for each thing that happened.
"""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from collectord.admin.format import day, iso, time_of_day
from collectord.admin.html import Node, h, quiet
from collectord.admin.tables import section
from collectord.observe.crashpage import CrashPage, JournalEntry

WAITS = "waits to be moved"


def way(crash: CrashPage, now: float) -> Element:
    """Make the section."""
    if not crash.events:
        return section("way", "Its way", h("p", "Nothing is recorded.", class_="note"))
    days = {day(event.at) for event in crash.events}
    steps = [_step(event, is_alone=len(days) == 1) for event in crash.events]
    steps += [_line("now", now, h("b", WAITS)) for place in crash.places if place.state == WAITS]
    aside = f"{min(days)}, UTC" if len(days) == 1 else "UTC"
    return section("way", "Its way", h("ol", steps, class_="way"), aside=aside)


def _step(event: JournalEntry, *, is_alone: bool) -> Element:
    time = time_of_day(event.at) if is_alone else f"{day(event.at)[:-5]} {time_of_day(event.at)[:5]}"
    return _line(time, event.at, list(_what(event)))


def _line(time: str, at: float, what: Node) -> Element:
    return h("li", h("time", time, datetime=iso(at)), " ", h("span", what))


def _what(event: JournalEntry) -> Iterator[Node]:
    if event.what == "kept":
        yield f"kept in {event.where}, CrashID answered "
        if event.rule:
            yield quiet(f"by rule {event.rule}")
    elif event.what == "moved":
        yield f"moved to {event.where} "
        if event.place and event.place != event.where:
            yield quiet(event.place)
    elif event.what == "published":
        yield f"published to {event.where}"
    elif event.what == "quarantined":
        yield [h("b", f"put into the quarantine of {event.where}", class_="bad"), " "]
        if event.place:
            yield quiet(event.place)
    elif event.what == "removed":
        yield h("b", f"removed from {event.where}")
    elif event.what == "expired":
        yield [h("b", f"removed from {event.where}"), " ", quiet(f"by {event.place}" if event.place else "too old")]
    elif event.what == "erased":
        yield h("b", f"erased from {event.where}")
    else:
        yield f"{event.what} {event.where}"


def is_erased(events: Sequence[JournalEntry]) -> JournalEntry | None:
    """Return when a crash was erased; None: it was not."""
    return next((event for event in reversed(events) if event.what == "erased"), None)
