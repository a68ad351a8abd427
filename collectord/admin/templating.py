"""
Fills the pages with values. A page is an HTML file whose elements say which value goes where.

C{data-text="x"}, C{data-href="x"} and C{data-class="x"} set the text, the link and the class of an element to the value
named x. C{data-rows="x"} repeats the only child of an element for each of the values named x, and puts a copy of that
child into a C{<template>} beside them, from which C{static/live.js} makes more rows in the browser, by the same rules.
Values are never markup.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

from collectord.admin.format import visible

Row: TypeAlias = Mapping[str, str]
Values: TypeAlias = Mapping[str, str | Sequence[Row]]


def sanitized(values: Values) -> Values:
    """Return C{values} with all characters made visible that can't be seen, and could fool a reader."""
    return {
        name: visible(value) if isinstance(value, str) else [_sanitized_row(row) for row in value]
        for name, value in values.items()
    }


def _sanitized_row(row: Row) -> Row:
    return {name: visible(value) for name, value in row.items()}


def render(template: Element, values: Values) -> bytes:
    """Return the HTML of a page: C{template} with C{values} in their places."""
    page = deepcopy(template)
    _fill(page, values)
    html: bytes = tostring(page, encoding="utf-8", method="html")
    return b"<!DOCTYPE html>\n" + html


def _fill(element: Element, values: Values) -> None:
    for target, attribute in (("href", "data-href"), ("class", "data-class"), ("data-key", "data-key")):
        if attribute in element.attrib:
            element.set(target, _text(values, element.attrib[attribute]))
    if "data-text" in element.attrib:
        element.text = _text(values, element.attrib["data-text"])
    elif "data-rows" in element.attrib:
        _repeat(element, values[element.attrib["data-rows"]])
    else:
        for child in element:
            _fill(child, values)


def _text(values: Values, name: str) -> str:
    value = values[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _repeat(element: Element, rows: str | Sequence[Row]) -> None:
    (pattern,) = element
    template = Element("template")
    template.append(deepcopy(pattern))
    element[:] = [template]
    for row in rows:
        assert isinstance(row, Mapping), row
        filled_row = deepcopy(pattern)
        _fill(filled_row, row)
        element.append(filled_row)
