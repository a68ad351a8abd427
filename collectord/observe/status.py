"""
What the admin page, its live data and C{collectord status} show: the state of a daemon, as values.
"""

from collections.abc import Iterator, Mapping, Sequence

from attrs import field, frozen


@frozen(kw_only=True)
class Rates:
    """
    Of one second, or a mean over a few.

    @ivar at: seconds since the epoch.
    @ivar received: submissions that began, per second.
    @ivar kept: per second; C{refused} are all other answers, C{moved} what left its store.
    @ivar bytes_in: on the wire, per second.
    """

    at: float
    received: float = 0.0
    kept: float = 0.0
    refused: float = 0.0
    moved: float = 0.0
    bytes_in: float = 0.0


@frozen(kw_only=True)
class Answer:
    """How many submissions were answered so. @ivar reason: C{kept}, C{rejected}, C{malformed_<why>} and so on."""

    status: str
    reason: str
    count: int


@frozen(kw_only=True)
class RuleCount:
    """
    How often a throttle rule decided.

    @ivar condition: the rule in words.
    @ivar results: by the name of the result.
    """

    name: str
    condition: str
    results: Mapping[str, int]


@frozen(kw_only=True)
class Store:
    """
    @ivar problem: empty where there is none.
    @ivar free_bytes: None: unknown.
    @ivar backlog: crashes that wait to be moved; None: none is ever moved, or they were not counted yet.
    @ivar oldest_age_s: of them; 0 where there are none.
    @ivar cautions: what it can't promise, in plain sentences.
    @ivar quarantined: None: they were not counted yet, or can't be.
    """

    name: str
    problem: str
    free_bytes: int | None
    min_free_bytes: int
    backlog: int | None
    oldest_age_s: float
    quarantined: int | None
    cautions: Sequence[str] = ()


@frozen(kw_only=True)
class SinkStatus:
    """
    A destination or a publisher.

    @ivar kind: C{destination} or C{publisher}.
    @ivar problem: empty where there is none.
    @ivar given: crashes that it confirmed since the start.
    @ivar resumes_in_s: it is left alone for so long.
    @ivar cautions: what it can't promise, in plain sentences.
    """

    name: str
    kind: str
    problem: str
    given: int
    failures: int
    resumes_in_s: float
    cautions: Sequence[str] = ()


@frozen(kw_only=True)
class WorkerStatus:
    """
    A process that takes submissions.

    @ivar since: it started, in seconds since the epoch.
    @ivar problem: empty where there is none.
    """

    pid: int
    since: float
    problem: str = ""


@frozen(kw_only=True)
class Recent:
    """
    One of the last crashes.

    @ivar at: it was kept, in seconds since the epoch.
    @ivar size: on the wire, in bytes.
    @ivar state: C{kept}, C{moved}, C{published}, C{removed} or C{quarantined}.
    @ivar where: the store or sink of that.
    """

    crash_id: str
    at: float
    product: str
    version: str
    size: int
    rule: str
    state: str
    where: str


@frozen(kw_only=True)
class Certificate:
    """
    Of a port.

    @ivar listen: the port, as the settings have it.
    @ivar expires: in seconds since the epoch.
    @ivar problem: empty where there is none.
    """

    listen: str
    expires: float
    problem: str


@frozen(kw_only=True)
class Loss:
    """
    No store takes anything, and crashes are lost.

    @ivar since: in seconds since the epoch.
    @ivar refused: reports that were answered 503 since.
    """

    since: float
    refused: int


@frozen(kw_only=True)
class Trouble:
    """What needs attention. @ivar where: a store, a destination and so on, by its kind and name."""

    where: str
    what: str


@frozen(kw_only=True)
class Overview:
    """
    @ivar history: of the last minutes, oldest first; one for each C{HISTORY_STEP_S} seconds.
    @ivar recent: the last crashes, newest first.
    @ivar loss: None: no crash is being lost.
    @ivar draining: load balancers are told to send no more.
    @ivar troubles: what needs attention, gravest first; the page and the command show just these.
    """

    version: str
    started: float
    now: float
    connections: int
    receiving: int
    saving: int
    moving: int
    totals: Mapping[str, int]
    rates: Rates
    history: Sequence[Rates] = field(repr=False)
    answers: Sequence[Answer]
    rules: Sequence[RuleCount]
    stores: Sequence[Store]
    outlets: Sequence[SinkStatus]
    workers: Sequence[WorkerStatus]
    recent: Sequence[Recent] = field(repr=False)
    loss: Loss | None = None
    draining: bool = False
    certificates: Sequence[Certificate] = ()
    troubles: Sequence[Trouble] = field(init=False)

    @troubles.default
    def _all_troubles(self) -> Sequence[Trouble]:
        return list(_troubles(self))


def _troubles(overview: Overview) -> Iterator[Trouble]:
    if all(worker.problem for worker in overview.workers):
        yield Trouble(where="No process", what="takes submissions: the log says why")
    for worker in overview.workers:
        if worker.problem:
            yield Trouble(where=f"Worker {worker.pid}", what=worker.problem)
    for store in overview.stores:
        if store.problem:
            yield Trouble(where=f"Store {store.name}", what=store.problem)
        if store.quarantined:
            yield Trouble(where=f"Store {store.name}", what=f"{store.quarantined:,} in the quarantine")
    for sink in overview.outlets:
        if sink.problem:
            yield Trouble(where=f"{sink.kind.capitalize()} {sink.name}", what=sink.problem)
    for certificate in overview.certificates:
        if certificate.problem:
            yield Trouble(where=f"Port {certificate.listen}", what=certificate.problem)
    if overview.draining:
        yield Trouble(where="It drains", what="load balancers are told to send no more reports here")


@frozen(kw_only=True)
class DumpFile:
    """
    @ivar expected: its sha256 by the raw crash; empty where that names none.
    """

    name: str
    size: int
    expected: str


@frozen(kw_only=True)
class Place:
    """
    Where a crash lies.

    @ivar state: C{waits to be moved}, C{stays}, or C{in the quarantine: <reason>}.
    """

    store: str
    state: str


@frozen(kw_only=True)
class Event:
    """What happened to a crash. @ivar at: in seconds since the epoch."""

    at: float
    what: str
    where: str


@frozen(kw_only=True)
class CrashPage:
    """
    All that is known of a crash.

    @ivar annotations: as they were kept; hostile.
    @ivar facts: the collector's own names of the raw crash, and its metadata.
    """

    crash_id: str
    annotations: Mapping[str, str] = field(repr=False)
    facts: Mapping[str, str] = field(repr=False)
    dumps: Sequence[DumpFile]
    places: Sequence[Place]
    events: Sequence[Event]
