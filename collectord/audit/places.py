"""
The places where crashes of a daemon may be.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from collectord.config import Settings
from collectord.errors import CollectordError
from collectord.observe.ledger import directory_of


class CannotAudit(CollectordError):
    """A place that crashes may be in can't be looked at; the text says which."""


@frozen(kw_only=True)
class Places:
    """
    Where crashes of a daemon may be.

    @ivar journals: the directory.
    @ivar stores: their roots, the primary first, and whether what is new in them is ever moved.
    @ivar destinations: the roots of those that are file systems.
    """

    journals: Path
    stores: Mapping[str, bool]
    destinations: Sequence[str]

    def refuse_absent(self) -> None:
        """
        @raise CannotAudit: a store is not there.
        """
        for root in self.stores:
            if not os.path.isdir(root):
                raise CannotAudit(f"there is no store at {root}: nobody can say whether its crashes are there")


def places_of(settings: Settings) -> Places:
    """By the settings of the daemon."""
    mover = settings.crashmover
    primary, *others = (str(store.root.absolute()) for store in settings.storage)
    return Places(
        journals=directory_of(settings),
        stores={primary: mover.enabled and bool(mover.destination), **dict.fromkeys(others, mover.enabled)},
        destinations=[str(root) for root in mover.filesystem_roots()],
    )
