"""
Choices between a few ways to show something, as links that need no script.
"""

from collections.abc import Mapping
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

from attrs import frozen

from collectord.admin.html import h


@frozen
class Switch:
    """
    A choice between some values.

    @ivar name: of the choice in a URL.
    @ivar choices: what can be chosen, and how it is called.
    @ivar chosen: one of these.
    @ivar others: what is chosen elsewhere on the page, which each link keeps.
    """

    name: str
    choices: Mapping[str, str]
    chosen: str
    others: Mapping[str, str]

    def links(self, label: str) -> Element:
        """Make the links; C{label} says what is chosen."""
        return h("nav", h("ul", [self._link(value) for value in self.choices]), class_="switch", aria_label=label)

    def _link(self, value: str) -> Element:
        href = f"?{urlencode({**self.others, self.name: value})}"
        current = "true" if value == self.chosen else None
        return h("li", h("a", self.choices[value], href=href, aria_current=current))
