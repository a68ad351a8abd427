"""
The places where crashes of a daemon may be.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from collectord.errors import CollectordError
from collectord.observe.journal.writer import directory_of
from collectord.settings.schema import Settings
from collectord.storage.filesystem.identity import StoreIdentity
from collectord.storage.filesystem.known import KnownStores, state_directory


class CannotAudit(CollectordError):
    """A place that crashes may be in can't be looked at; the text says which."""


@frozen(kw_only=True)
class Places:
    """
    Where crashes of a daemon may be.

    @ivar journals: the directory.
    @ivar stores: their roots, the primary first, and whether what is new in them is ever moved.
    @ivar destinations: the roots of those that are file systems.
    @ivar known: what is remembered of stores outside of them; None: nothing is.
    """

    journals: Path
    stores: Mapping[str, bool]
    destinations: Sequence[str]
    known: KnownStores | None = None

    def refuse_absent(self) -> None:
        """
        @raise CannotAudit: a store is not there, or another one is in its place.
        """
        for root in self.stores:
            why = self.problem_of(root)
            if why or not os.path.isdir(root):
                raise CannotAudit(
                    f"{why or f'there is no store at {root}'}: nobody can say whether the crashes of {root} are there"
                )

    def problem_of(self, root: str) -> str:
        """Why what lies at C{root} is not the store or the destination that it was; empty: it is."""
        return StoreIdentity(root, self.known).problem()


def places_of(settings: Settings) -> Places:
    """By the settings of the daemon."""
    mover = settings.crashmover
    primary, *others = (str(store.root.absolute()) for store in settings.storage)
    return Places(
        journals=directory_of(settings),
        stores={primary: mover.enabled and bool(mover.destination), **dict.fromkeys(others, mover.enabled)},
        destinations=[str(root) for root in mover.filesystem_roots()],
        known=KnownStores(state_directory(settings.state.directory, os.environ)),
    )
