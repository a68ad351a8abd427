"""
Says where a crash is that is in no store, and for how long that is remembered.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from collectord.admin.format import day, time_of_day
from collectord.admin.html import Node, h
from collectord.observe.crashpage import LEFT, CrashPage


def elsewhere(crash: CrashPage) -> Element:
    """Make the panel."""
    if crash.erased is not None:
        return _panel("It was erased", h("p", "Only that it was here, and when it was erased, is told."), _until(crash))
    if not crash.places:
        title = "It may still be here" if crash.not_asked else "It is not here any more"
        return _panel(title, list(_what_follows(crash)))
    return _panel(
        f"Its annotations and dumps went to {', '.join(crash.moved_to)}",
        h("p", _removed(crash)),
        h("pre", "\n".join(place.store for place in crash.places)),
        list(_there(crash)),
        list(_what_follows(crash)),
    )


def _removed(crash: CrashPage) -> str:
    removed = next((event for event in reversed(crash.events) if event.what == "removed"), None)
    if removed is None:
        return "No store has it any more."
    when = f"{day(removed.at)} at {time_of_day(removed.at)} UTC"
    return f"This collector removed its copy on {when}, after it was confirmed there."


def _there(crash: CrashPage) -> Iterator[Element]:
    left = [place.store for place in crash.places if place.state == LEFT]
    if left:
        yield h("p", f"It has left {', '.join(left)} since.")
    if len(left) < len(crash.places):
        yield h("p", "This brings it back: ", h("code", f"collectord fetch {crash.crash_id}"))


def _what_follows(crash: CrashPage) -> Iterator[Node]:
    if crash.not_asked:
        yield h("p", "Not all could be asked: ", h("b", crash.not_asked, class_="bad"))
    yield h("p", f"What follows is what the {'index' if crash.told_until is None else 'ledger'} remembers.")
    yield _until(crash)


def _until(crash: CrashPage) -> Element | None:
    if crash.told_until is None:
        return None
    return h("p", f"The ledger keeps this until {day(crash.told_until)}, or longer.", class_="note")


def _panel(title: str, *content: Node) -> Element:
    return h("section", h("h2", title, id="gone"), content, class_="panel", aria_labelledby="gone")
