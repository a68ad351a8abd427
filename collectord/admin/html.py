"""
Makes HTML of values: no text can become markup, and characters that can't be seen are shown by their numbers.
"""

from collections.abc import Iterable
from typing import TypeAlias, Union
from xml.etree.ElementTree import Element, tostring

from collectord.admin.format import visible

Node: TypeAlias = Union[Element, str, Iterable["Node"], None]  # noqa: UP007  (it names itself)
"""What an element may hold: elements, texts, nothing, and lists of these."""


def h(tag: str, *children: Node, **attributes: str | None) -> Element:
    """
    Make an element.

    @param attributes: C{class_} is C{class}, and C{data_label} is C{data-label}; those that are None are left out.
    """
    element = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(name.removesuffix("_").replace("_", "-"), visible(value))
    for child in children:
        _append(element, child)
    return element


def _append(element: Element, child: Node) -> None:
    if child is None:
        return
    if isinstance(child, Element):
        element.append(child)
    elif isinstance(child, str):
        if len(element):
            element[-1].tail = (element[-1].tail or "") + visible(child)
        else:
            element.text = (element.text or "") + visible(child)
    else:
        for each in child:
            _append(element, each)


def group(*children: Node) -> Node:
    """Put several things where one is expected."""
    return children


def document(html: Element) -> bytes:
    """Return a whole page as bytes in UTF-8."""
    body: bytes = tostring(html, encoding="utf-8", method="html")
    return b"<!DOCTYPE html>\n" + body


def quiet(text: str) -> Element:
    """Make a text that matters less than what is beside it."""
    return h("span", text, class_="quiet")


def classes(*names: str | None) -> str | None:
    """Return names of classes as one attribute; None if there are none."""
    return " ".join(filter(None, names)) or None
