"""
Lists of crashes: the last ones, those that were found, and those that are the same as one.
"""

from collections.abc import Collection, Sequence

from attrs import frozen

from collectord.admin.frame import Frame
from collectord.admin.html import Node, h, quiet
from collectord.admin.place import shown_place
from collectord.admin.tables import Cell
from collectord.index.values import IndexedCrash
from collectord.observe.status import Overview, Recent
from collectord.units import size_in_words

MAX_TEXT = 200
"""The most characters that are shown of what a client said in a table."""


@frozen(kw_only=True)
class CrashCells:
    """
    Writes what is known of crashes into cells.

    @ivar moving: the stores out of which crashes are moved.
    """

    frame: Frame
    moving: Collection[str] = ()

    def place(self, crash: IndexedCrash) -> Cell:
        """Where it crashed, as a link to what is known of the fingerprint, if it has one."""
        link = place_link(self.frame, crash.fingerprint, crash.place)
        no_link = shortened(shown_place(crash.place).text, MAX_TEXT) if crash.place else None
        nothing = quiet("no minidump") if crash.minidump == "none" else None
        return Cell(link or no_link or nothing, title=crash.place[:MAX_TEXT] or None)

    def product(self, crash: IndexedCrash) -> Cell:
        """Its product and version; of one that was erased nobody knows them."""
        if crash.state == "erased":
            return Cell(None)
        name = product_name(crash.product, crash.version)
        return Cell(name, title=name)

    def size(self, crash: IndexedCrash) -> Node:
        """The size of its report."""
        return None if crash.size is None else size_in_words(crash.size)

    def now(self, crash: IndexedCrash) -> Node | Cell:
        """Where it is now."""
        words = state_in_words(crash, waits=crash.store in self.moving)
        return Cell(h("b", words, class_="bad")) if crash.state == "quarantined" else words


def state_in_words(crash: IndexedCrash, *, waits: bool) -> str:
    """
    Say where a crash is now.

    @param waits: whether crashes of its store are moved.
    """
    if crash.state == "kept":
        return f"{'waits in' if waits else 'in'} {crash.store}"
    if crash.state == "moved":
        there = ", ".join([*crash.moved_to, *crash.published_to])
        return f"moved to {there}" if there else "moved"
    if crash.state == "quarantined":
        return f"in the quarantine of {crash.store}"
    return crash.state


def product_name(product: str, version: str) -> str:
    """Write a product and its version, as far as they are known."""
    return f"{product[:MAX_TEXT]} {version[:MAX_TEXT]}".strip() or "no product"


def fingerprint_link(frame: Frame, fingerprint: str, text: Node) -> Node:
    """Make the link to what is known of a fingerprint."""
    return h("a", text, class_="id", href=f"{frame.up}fingerprints/{fingerprint}")


def place_link(frame: Frame, fingerprint: str, place: str, most: int = MAX_TEXT) -> Node:
    """Make the link to what is known of a fingerprint, with its place as its text."""
    if not fingerprint:
        return None
    return fingerprint_link(frame, fingerprint, shortened(shown_place(place).text, most) or fingerprint)


def shortened(text: str, most: int) -> str:
    """Return a text with its middle left out if it is longer than C{most}: the offset of a place is at its end."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[most // 2 + 1 - most :]}"


def moving(overview: Overview) -> Sequence[str]:
    """Return the stores out of which crashes are moved."""
    return [store.name for store in overview.stores if store.is_moved]


def of_recent(recent: Sequence[Recent], most: int) -> Sequence[IndexedCrash]:
    """Return crashes that the daemon remembers, for when the index can't be asked."""
    return [_of_recent(crash) for crash in recent[:most]]


def _of_recent(crash: Recent) -> IndexedCrash:
    moved = crash.state in ("moved", "published")
    return IndexedCrash(
        crash_id=crash.crash_id,
        at=crash.at,
        product=crash.product,
        version=crash.version,
        size=crash.size,
        rule=crash.rule,
        store="" if moved else crash.where,
        state="moved" if moved else "quarantined" if crash.state == "quarantined" else "kept",
        moved_to=[crash.where] if moved else [],
    )
