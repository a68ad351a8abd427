"""
The state of one store as a value: what the admin page, its live data and C{collectord status} show of it.
"""

from collections.abc import Sequence

from attrs import frozen


@frozen(kw_only=True)
class StoreFigures:
    """
    What was last known of a store that can't be asked now.

    @ivar at: when that was, in seconds since the epoch; the others are as in L{StoreStatus}.
    """

    at: float
    free_bytes: int
    backlog: int | None
    quarantined: int | None


@frozen(kw_only=True)
class StoreStatus:
    """
    How one store is.

    @ivar problem: why it takes no crashes; empty if it does.
    @ivar free_bytes: free space of its file system; None if that is not known.
    @ivar total_bytes: size of its file system; None if that is not known.
    @ivar min_free_bytes: with less free space than this the store counts as full.
    @ivar is_moved: whether its crashes are moved.
    @ivar backlog: crashes that wait to be moved; None if nothing moves them, or they have not been counted yet.
    @ivar oldest_age_s: how long the oldest of them has waited; 0 if none waits.
    @ivar quarantined: crashes in its quarantine; None if they have not been counted yet, or can't be.
    @ivar cautions: what it can't promise, in plain sentences.
    @ivar file_system: the kind of its file system, as C{ext4}; empty if that is not known.
    @ivar last_known: None: what is told is of now, or nothing was ever known.
    """

    name: str
    problem: str
    free_bytes: int | None
    min_free_bytes: int
    backlog: int | None
    oldest_age_s: float
    quarantined: int | None
    is_moved: bool = False
    total_bytes: int | None = None
    cautions: Sequence[str] = ()
    file_system: str = ""
    last_known: StoreFigures | None = None

    @property
    def is_full(self) -> bool:
        """Whether it takes no crashes since no more is free than C{min_free_bytes}."""
        return bool(self.problem) and self.free_bytes is not None and self.free_bytes <= self.min_free_bytes
