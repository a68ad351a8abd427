"""
One store of a chain, and how it is.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from attrs import Factory, define, field, frozen

from collectord.concurrency.threadpool import ThreadRunner
from collectord.interfaces import ICrashSource, ICrashStorage, IDumpStaging
from collectord.storage.chain.breaker import Breaker

CHECK_S = 5.0


@frozen
class BackendState:
    """
    @ivar problem: empty where there is none.
    @ivar figures: as L{ICrashStorage.check} has them.
    @ivar cautions: what it can't promise, in plain sentences.
    """

    name: str
    problem: str
    figures: Mapping[str, int]
    cautions: Sequence[str] = ()


@define(eq=False)
class Backend:
    """
    One store of the chain.

    @ivar timeout: seconds that it may take for one part of a big dump.
    @ivar cautions: what the store can't promise, as far as it knows by now.
    @ivar quick_check: raises a L{StorageError} where the store is known to be full or away, at next to no cost.
    @ivar prepare: returns once crashes can be moved out of it, full or not.
    @ivar refuse_other: raises OSError where something else has taken the store's place, such as an empty mount point.
    @ivar source: makes a source of what the store keeps, that reads on the threads it is given; None: there is none.
    """

    name: str
    storage: ICrashStorage
    staging: IDumpStaging
    timeout: float
    breaker: Breaker = field(factory=Breaker)
    cautions: Callable[[], Sequence[str]] = tuple
    quick_check: Callable[[], Awaitable[object]] | None = None
    prepare: Callable[[], Awaitable[object]] = Factory(lambda self: self.storage.check, takes_self=True)
    refuse_other: Callable[[], None] = lambda: None
    source: Callable[[ThreadRunner], ICrashSource] | None = None
