"""
What a search of the index answers, as values.
"""

from collections.abc import Sequence

from attrs import frozen

from collectord.index.values import IndexedCrash


@frozen(kw_only=True)
class FacetValue:
    """
    One value by which a search can be narrowed.

    @ivar word: what to add to the query for it, as in C{product:App}.
    @ivar label: what to show: the value itself, or of a fingerprint its place.
    @ivar count: how many crashes have it, under the other filters.
    @ivar is_chosen: whether the query asks for it already.
    """

    word: str
    label: str
    count: int
    is_chosen: bool = False


@frozen(kw_only=True)
class Facet:
    """
    A property of crashes with its most frequent values.

    @ivar name: C{product}, C{version}, C{day}, C{fingerprint} or C{state}.
    @ivar others: how many more values there are.
    @ivar others_count: how many crashes have these.
    """

    name: str
    values: Sequence[FacetValue]
    others: int = 0
    others_count: int = 0


@frozen(kw_only=True)
class SearchWord:
    """
    One condition of a query: C{name:value}, or the beginning of a crash id.

    @ivar name: C{id}, C{product}, C{version}, C{day}, C{fingerprint}, C{place}, C{state}, C{rule}, C{store}, or the
        name of an annotation.
    @ivar value: what it has to be; with C{*} at its end, how it has to begin.
    @ivar is_not: whether it must not be so.
    @ivar text: as it is written in a query.
    @ivar without: the query without it.
    """

    name: str
    value: str
    is_not: bool
    text: str
    without: str


@frozen(kw_only=True)
class Found:
    """
    What a search has found.

    @ivar query: as it was asked.
    @ivar words: its conditions.
    @ivar problem: why it can't be searched for; empty if it can. Then there are no crashes and no facets.
    @ivar count: how many crashes match.
    @ivar is_all: False: there are so many that only the newest were counted.
    @ivar since: the time of the oldest crash that was looked at, as C{until} of the newest; None: there is none.
    @ivar not_kept: how many more reports that the query fits were seen in that time, and not kept; None: that is not
        known, since reports are counted by product, version and fingerprint only.
    @ivar seconds: how long it took.
    @ivar crashes: one page of them, newest first.
    @ivar first: the number of the first of these, from 1.
    @ivar older: what to ask for as C{before} to get the next page; empty: this is the last one.
    @ivar newer: whether there are newer ones than on this page.
    """

    query: str
    words: Sequence[SearchWord]
    problem: str = ""
    count: int = 0
    is_all: bool = True
    since: float | None = None
    until: float | None = None
    not_kept: int | None = None
    seconds: float = 0.0
    crashes: Sequence[IndexedCrash] = ()
    first: int = 1
    older: str = ""
    newer: bool = False
    facets: Sequence[Facet] = ()
