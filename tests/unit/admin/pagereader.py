"""
A page as a browser reads it, without a browser.
"""

from html.parser import HTMLParser

from attrs import define, field

from tests.unit.admin.adminwire import Admin


@define
class Page(HTMLParser):
    """
    What is on a page.

    @ivar elements: names.
    @ivar rows: the texts of the cells of all rows.
    """

    elements: set[str] = field(factory=set)
    attributes: list[tuple[str, str | None]] = field(factory=list)
    rows: list[list[str]] = field(factory=list)
    texts: list[str] = field(factory=list)
    _in_cell: bool = False

    def __attrs_pre_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._in_cell:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        """The cells of the row that has such a cell."""
        cells = [[cell.strip() for cell in row] for row in self.rows]
        return next(row for row in cells if name in row)

    def links(self, text: str = "") -> list[str]:
        """All links that have this in them."""
        return [value or "" for name, value in self.attributes if name in ("href", "src") and text in (value or "")]

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def read(html: bytes) -> Page:
    assert html.startswith(b"<!DOCTYPE html>\n<html")
    page = Page()
    page.feed(html.decode("utf-8", errors="strict"))
    return page


def page_at(admin: Admin, path: str) -> Page:
    response = admin.ask(path)
    assert (response.status, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return read(response.body)
