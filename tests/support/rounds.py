"""
A fault again and again, each time at another moment, and what was found.
"""

import os
from collections.abc import Iterator, Mapping
from random import Random, randrange
from typing import Self

from attrs import define, field

from tests.support.disk import StoredCrash
from tests.support.reports import is_whole

_SHORT = 2


@define
class Rounds:
    """
    Rounds of one fault, and what they found.

    @ivar what: is tried, in a word or two.
    @ivar seed: of all chance in them.
    @ivar acknowledged: crashes, whose fate was looked up.
    """

    what: str
    number: int
    seed: int
    done: int = 0
    acknowledged: int = 0
    lost: list[str] = field(factory=list)
    half_seen: list[str] = field(factory=list)

    @classmethod
    def by_environment(cls, what: str) -> Self:
        """C{ROUNDS=50} and C{SEED=7} in the environment say how many, and which; else there are two, by chance."""
        seed = int(os.environ.get("SEED") or randrange(1_000_000))
        return cls(what, int(os.environ.get("ROUNDS") or _SHORT), seed)

    def __iter__(self) -> Iterator[tuple[int, Random]]:
        """The number of each round, and its own chance."""
        for n in range(self.number):
            yield n, Random(f"{self.seed} {n}")
            self.done += 1

    def compare(self, acknowledged: set[str], *stores: Mapping[str, StoredCrash]) -> None:
        """
        Look all crashes of a round up at rest.

        @raise AssertionError: one that was acknowledged is whole in no store, or half a crash is in one.
        """
        everything = [(crash_id, is_whole(crash)) for store in stores for crash_id, crash in store.items()]
        self.acknowledged += len(acknowledged)
        self.lost += sorted(acknowledged - {crash_id for crash_id, whole in everything if whole})
        self.half_seen += [crash_id for crash_id, whole in everything if not whole]
        assert (self.lost, self.half_seen) == ([], []), str(self)

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.done} rounds (SEED={self.seed}), {self.acknowledged} acknowledged, "
            f"{len(self.lost)} lost, {len(self.half_seen)} half seen"
        )
