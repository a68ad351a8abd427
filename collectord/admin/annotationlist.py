"""
What a client said of a crash, as a table: values are cut, and some have a reading beside them.
"""

import re
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from collectord.admin.format import count, moment, span
from collectord.admin.html import Node, h, quiet
from collectord.admin.tables import pairs, section
from collectord.units import size_in_words

MAX_ANNOTATIONS = 1000
MAX_VALUE = 5000
MAX_NAME = 200
"""The most annotations, and the most characters of a value and of a name, that are shown. The JSON has all of them."""

_LONG = 100
"""A value of more characters, or of several lines, is a block of text of its own."""

_LINES = 8
"""A block with more lines may have to be scrolled."""

_EARLIEST, _LATEST = 946684800, 4102444800  # 2000 to 2100
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,9})?", re.ASCII)
_TIME = re.compile(r"(time|date|timestamp)s?$", re.IGNORECASE)
_BYTES = re.compile(r"memory|bytes|(?<![a-z])size$|pagefile|virtual|commit", re.IGNORECASE)
_SECONDS = re.compile(r"(?<![a-z])uptime|secondssince|(?<=[a-z_])seconds$", re.IGNORECASE)


def annotation_list(annotations: Mapping[str, str], only: str) -> Element:
    """
    Make the section.

    @param only: of the annotations, show those with this text in their names or values; empty: all.
    """
    names = sorted(annotations, key=lambda name: (name.lower(), name))
    wanted = [name for name in names if _has(name, annotations[name], only)]
    said = f"{count(len(wanted))} of {count(len(names))}" if only else count(len(names))
    shown: Node = pairs("What the client said", [entry(name, annotations[name]) for name in wanted[:MAX_ANNOTATIONS]])
    if not wanted:
        shown = h("p", f"None has “{only[:MAX_NAME]}”." if only else "The client sent none.", class_="note")
    more = len(wanted) - MAX_ANNOTATIONS
    rest = f"{count(more)} more {'is' if more == 1 else 'are'} in the JSON." if more > 0 else None
    return section(
        "annotations",
        "Annotations",
        shown,
        h("p", rest, class_="note") if rest else None,
        aside=f"{said}, from the client; not to be trusted",
        beside=_filter(only) if names else None,
    )


def _has(name: str, value: str, text: str) -> bool:
    return text.lower() in name.lower() or text.lower() in value.lower()


def _filter(only: str) -> Element:
    return h(
        "form",
        h("label", "Only annotations with", class_="away", for_="only"),
        h("input", type="search", id="only", name="only", value=only, placeholder="Only those with …"),
        h("button", "Filter"),
        class_="filter",
        method="get",
    )


def entry(name: str, value: str) -> tuple[str, Node]:
    """Make the row of one annotation."""
    shown = value[:MAX_VALUE]
    is_long = len(shown) > _LONG or "\n" in shown
    more = len(value) - MAX_VALUE
    parts: Sequence[Node] = [
        _block(shown) if is_long else h("code", shown),
        [" ", quiet(said)] if (said := reading(name, value)) else None,
        h("p", f"… {count(more)} more character{'' if more == 1 else 's'} in the JSON.", class_="note")
        if more > 0
        else None,
    ]
    return name[:MAX_NAME], parts


def _block(text: str) -> Element:
    """A block of text. One that has to be scrolled can be reached with the keyboard."""
    is_scrolled = text.count("\n") > _LINES or len(text) > _LINES * _LONG
    return h("pre", text, tabindex="0" if is_scrolled else None)


def reading(name: str, value: str) -> str:
    """Say what a number means, if its name tells: a time, a size, or a length of time; else return an empty text."""
    if not _NUMBER.fullmatch(value):
        return ""
    number = float(value)
    if _SECONDS.search(name):
        return span(number) if number >= 60 else ""
    if _EARLIEST < number < _LATEST and _TIME.search(name):
        return moment(number)
    if number >= 1000 and _BYTES.search(name):
        return size_in_words(number)
    return ""
