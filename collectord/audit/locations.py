"""
Where the crashes of a daemon may be, by its settings.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from collectord.errors import CollectordError
from collectord.observe.journal.writer import directory_of
from collectord.settings.schema import Settings
from collectord.storage.filesystem.identity import StoreIdentity
from collectord.storage.filesystem.known import KnownStores, state_directory


class CannotAudit(CollectordError):
    """A store can't be looked at, so nobody can say what became of its crashes; the text says which."""


@frozen(kw_only=True)
class CrashLocations:
    """
    The locations are all places where the crashes of a daemon may be.

    @ivar journals: the directory of the journals.
    @ivar other_journals: those of daemons on other hosts that move crashes out of these stores.
    @ivar stores: for the root of each store, the primary first, whether new crashes are ever moved out of it.
    @ivar destinations: the roots of the destinations that are file systems.
    @ivar known_stores: what is remembered of stores outside of them; None: nothing is.
    """

    journals: Path
    stores: Mapping[str, bool]
    destinations: Sequence[str]
    known_stores: KnownStores | None = None
    other_journals: Sequence[Path] = ()

    @property
    def primary(self) -> str:
        """The root of the primary."""
        return next(iter(self.stores))

    @property
    def shared(self) -> Collection[str]:
        """The roots of the stores that another host may have, too: all but the primary, which each has for itself."""
        return list(self.stores)[1:]

    def require_all_stores(self) -> None:
        """
        Check that every store is there.

        @raise CannotAudit: a store is not there, or a different one is mounted there.
        """
        for root in self.stores:
            why = self.problem_of(root)
            if why or not os.path.isdir(root):
                raise CannotAudit(
                    f"{why or f'there is no store at {root}'}: nobody can say whether the crashes of {root} are there"
                )

    def can_search(self, root: str) -> bool:
        """Tell whether the store or destination at C{root} is there, and no different one is mounted there."""
        return not self.problem_of(root) and os.path.isdir(root)

    def problem_of(self, root: str) -> str:
        """Say in words why what is at C{root} is not the store or destination of the settings; empty: it is."""
        return StoreIdentity(root, self.known_stores).problem()


def locations_of(settings: Settings) -> CrashLocations:
    """Return where the crashes of the daemon with these settings may be."""
    mover = settings.crashmover
    primary, *others = (str(store.root.absolute()) for store in settings.storage)
    return CrashLocations(
        journals=directory_of(settings),
        stores={primary: mover.enabled and bool(mover.destination), **dict.fromkeys(others, mover.enabled)},
        destinations=[str(root) for root in mover.filesystem_roots()],
        known_stores=KnownStores(state_directory(settings.state.directory, os.environ)),
    )
