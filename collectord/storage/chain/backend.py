"""
One store of a chain, with what the chain has to know about it, and its state as a check found it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from attrs import Factory, define, field, frozen

from collectord.concurrency.threadpool import ThreadRunner
from collectord.interfaces import ICrashSource, ICrashStorage, IDumpStaging
from collectord.pressure import RoomGauge
from collectord.storage.chain.breaker import Breaker

CHECK_S = 5.0
"""The time limit of a check of a store, in seconds."""
SLOW_S = 0.25
"""If a crash waits longer than this to be kept, it waits for a disk."""


@frozen
class BackendState:
    """
    What a check has found out about one store.

    @ivar problem: why the store could not save a crash; empty if it could.
    @ivar figures: as L{ICrashStorage.check} returns them.
    @ivar cautions: what the store can't promise, in sentences.
    """

    name: str
    problem: str
    figures: Mapping[str, int]
    cautions: Sequence[str] = ()


@define(eq=False)
class Backend:
    """
    A backend is one store of a chain.

    @ivar timeout: seconds that the store may take for one part of a big dump.
    @ivar cautions: returns what the store can't promise, in sentences, as far as that is known by now.
    @ivar room: tells whether the store is nearly full.
    @ivar quick_check: raises L{StorageError} if the store is full or away, and else returns how many bytes are free, if
        that is known. It costs next to nothing. None: there is no such check.
    @ivar has: tells whether the store has a crash, or raises L{StorageError}. None: it can't be asked.
    @ivar was_erased: tells whether the store knows that a crash was erased lately, or raises L{StorageError}. None: it
        can't be asked.
    @ivar prepare: returns once crashes can be moved out of the store, even if it is full.
    @ivar refuse_other: raises OSError if something else lies at the path of the store, such as an empty mount point.
    @ivar source: makes a source of the crashes in the store, which reads on the given threads. None: there is none.
    @ivar unpublished: makes a source of the ids in the store that a publisher has not got yet.
    @ivar waited: returns for how many seconds the oldest crash has waited that is being saved now, in whichever process
        of the daemon.
    """

    name: str
    storage: ICrashStorage
    staging: IDumpStaging
    timeout: float
    breaker: Breaker = field(factory=Breaker)
    cautions: Callable[[], Sequence[str]] = tuple
    room: RoomGauge = field(factory=lambda: RoomGauge(0, 0))
    quick_check: Callable[[], Awaitable[int | None]] | None = None
    has: Callable[[str], Awaitable[bool]] | None = None
    was_erased: Callable[[str], Awaitable[bool]] | None = None
    prepare: Callable[[], Awaitable[object]] = Factory(lambda self: self.storage.check, takes_self=True)
    refuse_other: Callable[[], None] = lambda: None
    source: Callable[[ThreadRunner], ICrashSource] | None = None
    unpublished: Callable[[str, ThreadRunner], ICrashSource] | None = None
    waited: Callable[[], float] = lambda: 0.0

    @property
    def is_slow(self) -> bool:
        """Whether those who send crashes wait for the disk of this store, so that other work should wait."""
        return self.waited() > SLOW_S
