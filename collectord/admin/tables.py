"""
Tables whose rows become blocks on a phone: each cell then carries the name of its column.
"""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from attrs import frozen

from collectord.admin.html import Node, classes, group, h


@frozen(kw_only=True)
class Column:
    """
    One column of a table.

    @ivar head: its name in the head of the table.
    @ivar style: the classes of its cells and of its head.
    @ivar cells: further classes of its cells alone.
    @ivar label: the word before a value where there is no head; empty: none is needed.
    @ivar is_head: whether its cells name their rows.
    @ivar sorted: whether the rows are sorted by it, the greatest first.
    """

    head: Node
    style: str = ""
    cells: str = ""
    label: str = ""
    is_head: bool = False
    sorted: bool = False


@frozen
class Cell:
    """
    What stands in one cell.

    @ivar style: classes of this cell alone.
    @ivar title: its whole text, if it is cut off.
    """

    content: Node
    style: str = ""
    title: str | None = None


@frozen
class Row:
    """
    One row of a table.

    @ivar key: what tells it from the others, so that it stays the same one while others come and go.
    """

    key: str
    cells: Sequence[Node | Cell]


def table(caption: str, columns: Sequence[Column], rows: Sequence[Row], style: str = "stack") -> Element:
    """Make a table; C{caption} says what is in it, to those who can't see it."""
    return h(
        "table",
        h("caption", caption),
        h("thead", h("tr", [_head(column) for column in columns])),
        h("tbody", [_row(columns, row) for row in rows]),
        class_=style or None,
    )


def _head(column: Column) -> Element:
    order = "descending" if column.sorted else None
    return h("th", column.head, scope="col", class_=column.style or None, aria_sort=order)


def _row(columns: Sequence[Column], row: Row) -> Element:
    cells = [
        _cell(column, cell if isinstance(cell, Cell) else Cell(cell))
        for column, cell in zip(columns, row.cells, strict=True)
    ]
    return h("tr", cells, data_key=row.key)


def _cell(column: Column, cell: Cell) -> Element:
    return h(
        "th" if column.is_head else "td",
        cell.content,
        scope="row" if column.is_head else None,
        class_=classes(column.style, column.cells, cell.style),
        data_label=column.label or None,
        title=cell.title,
    )


def pairs(caption: str, rows: Sequence[tuple[str, Node]], style: str = "pairs") -> Element:
    """Make a table of names and values."""
    return h(
        "table",
        h("caption", caption),
        h("colgroup", h("col", class_="name"), h("col")),
        h("tbody", [h("tr", h("th", breakable(name), scope="row"), h("td", value)) for name, value in rows]),
        class_=style,
    )


def breakable(name: str) -> Node:
    """Let a long name be broken after an underscore."""
    first, *others = name.split("_")
    return first, [["_", h("wbr"), other] for other in others]


def section(name: str, title: str, *content: Node, aside: Node = None, beside: Node = None) -> Element:
    """
    Make a section with a heading.

    @param name: its anchor.
    @param aside: what is said after the heading, and less loudly.
    @param beside: what stands at the end of the line of the heading, as it is.
    """
    said = None if aside is None else group(" ", h("span", aside, class_="aside"))
    head = h("div", h("h2", title, id=name), said, beside, class_="head")
    return h("section", head, content, aria_labelledby=name)
