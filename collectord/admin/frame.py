"""
What stands on every page: the search at the top, the time, and what programs can read at the bottom.
"""

from xml.etree.ElementTree import Element

from attrs import frozen

from collectord.admin.format import age, day, iso, span, time_of_day, when
from collectord.admin.html import Node, document, h, quiet
from collectord.crashid import is_crash_id

_FIRST_EVERY_S, _OTHERS_EVERY_S = 2, 10
"""How often a browser asks for the overview again, and for another page, which is made for it alone."""

HINT = "Crash id, or product:App version:4.2.1"


@frozen(kw_only=True)
class Frame:
    """
    What a page knows of the daemon and of itself.

    @ivar now: when it was made, in seconds since the epoch; C{started} is when the daemon was.
    @ivar up: the way from the page to the first one: empty, or C{../}.
    @ivar searches: whether crashes can be searched for.
    @ivar query: what is searched for.
    """

    now: float
    started: float
    version: str
    host: str = ""
    up: str = ""
    searches: bool = False
    query: str = ""

    def page(self, title: str, *content: Node, is_first: bool = False) -> bytes:
        """
        Make a whole page.

        @param is_first: whether it is the overview, whose heading is the name of the program.
        """
        return document(
            h(
                "html",
                self._head(title, is_first),
                h("body", self._top(is_first), h("main", content), self._bottom()),
                lang="en",
            )
        )

    def _head(self, title: str, is_first: bool) -> Element:
        every = _FIRST_EVERY_S if is_first else _OTHERS_EVERY_S
        return h(
            "head",
            h("meta", charset="utf-8"),
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="color-scheme", content="light dark"),
            h("title", title),
            h("link", rel="icon", href=f"{self.up}static/icon.svg"),
            h("link", rel="stylesheet", href=f"{self.up}static/page.css"),
            h("script", src=f"{self.up}static/live.js", defer="defer", data_every=str(every)),
        )

    def _top(self, is_first: bool) -> Element:
        home = h("h1", "collectord", class_="home")
        if not is_first:
            home = h("a", "collectord", class_="home", href=self.up or "./")
        return h(
            "header",
            home,
            h("span", self.host, class_="host") if self.host else None,
            self._find() if self.searches else None,
            h(
                "p",
                h("time", f"{day(self.now)}, {time_of_day(self.now)} UTC", datetime=iso(self.now)),
                h("span", ", as loaded", id="link"),
                class_="clock",
            ),
            class_="top",
        )

    def _find(self) -> Element:
        return h(
            "form",
            h("label", "Find crashes", class_="away", for_="q"),
            h(
                "input",
                type="search",
                id="q",
                name="q",
                value=self.query,
                placeholder=HINT,
                autocomplete="off",
                spellcheck="false",
            ),
            h("button", "Find"),
            class_="find",
            role="search",
            action=f"{self.up}search",
            method="get",
        )

    def _bottom(self) -> Element:
        overview = h("a", "overview.json", href=f"{self.up}overview.json")
        metrics = h("a", "metrics", href=f"{self.up}metrics")
        return h(
            "footer",
            h("p", "For programs: ", overview, ", ", metrics),
            h("p", "All times UTC. 1 KiB is 1,024 bytes."),
            h("p", f"collectord {self.version}, up {span(self.now - self.started)}"),
            class_="bottom",
        )

    def crash_link(self, crash_id: str, text: str | None = None) -> Node:
        """Make the link to the page of a crash."""
        if not is_crash_id(crash_id):
            return text or crash_id
        short = None if text is None else crash_id
        return h("a", text or crash_id, href=f"{self.up}crashes/{crash_id}", title=short)

    def moment(self, at: float) -> Node:
        """Make a time with its age."""
        return [h("time", when(at, self.now), datetime=iso(at)), " ", quiet(age(self.now - at))]
