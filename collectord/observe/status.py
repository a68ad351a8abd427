"""
The state of a daemon as values: what the admin page, its live data and C{collectord status} show.
"""

from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve, field, frozen

from collectord.observe.storestatus import StoreStatus
from collectord.observe.trouble import Trouble


@frozen(kw_only=True)
class Rates:
    """
    What happens per second: as it was counted in one second, or the mean over a few seconds.

    @ivar at: when that was, in seconds since the epoch.
    @ivar received: submissions that began.
    @ivar kept: crashes that were kept and acknowledged.
    @ivar refused: submissions that got any other answer.
    @ivar lost: those of these that were answered 503, since no store took them.
    @ivar moved: crashes that all of their destinations have got.
    @ivar bytes_in: bytes of submissions, as they came over the wire.
    """

    at: float
    received: float = 0.0
    kept: float = 0.0
    refused: float = 0.0
    lost: float = 0.0
    moved: float = 0.0
    bytes_in: float = 0.0


@frozen(kw_only=True)
class AnswerCount:
    """
    How many submissions got a certain answer.

    @ivar status: the HTTP status, as C{200}.
    @ivar reason: C{kept}, C{rejected}, C{malformed_<why>} and so on.
    """

    status: str
    reason: str
    count: int


@frozen(kw_only=True)
class RuleCount:
    """
    How often a throttle rule decided.

    @ivar condition: when the rule matches, in words.
    @ivar results: how often, by the name of the result.
    @ivar outcome: what becomes of the reports that match, in words; empty: it is no rule of the settings.
    """

    name: str
    condition: str
    results: Mapping[str, int]
    outcome: str = ""


@frozen(kw_only=True)
class SinkStatus:
    """
    How one destination or publisher is.

    @ivar kind: C{destination} or C{publisher}.
    @ivar problem: why it took no crash when it was tried last; empty if it did, or was not tried yet.
    @ivar given: crashes that it confirmed since the start of the daemon.
    @ivar failures: how often a delivery to it, or a check of it, failed since then.
    @ivar resumes_in_s: seconds until it is tried again after failures; 0 if it is not backing off.
    @ivar cautions: what it can't promise, in plain sentences.
    @ivar is_tried: whether any process knows how it is now: it was tried, and if it failed, it is being tried again.
    """

    name: str
    kind: str
    problem: str
    given: int
    failures: int
    resumes_in_s: float
    cautions: Sequence[str] = ()
    is_tried: bool = True


@frozen(kw_only=True)
class WorkerStatus:
    """
    How one process is that takes submissions, or moves crashes.

    @ivar name: what it is called in the log, such as C{worker 1}; empty if the daemon is one process.
    @ivar since: when it started, in seconds since the epoch.
    @ivar problem: why it does not do that; empty if it does.
    @ivar per_s: submissions that it received a second, of late; None: not known.
    """

    pid: int
    since: float
    problem: str = ""
    per_s: float | None = None
    name: str = ""

    @property
    def in_words(self) -> str:
        """Its name and the id of the process, as the log has them."""
        return f"{self.name} (pid {self.pid})" if self.name else f"pid {self.pid}"


@frozen(kw_only=True)
class Recent:
    """
    One of the last crashes, and what happened to it last.

    @ivar at: when it was kept, in seconds since the epoch.
    @ivar size: of its report on the wire, in bytes.
    @ivar rule: the throttle rule that decided to keep it.
    @ivar state: what happened to it last: C{kept}, C{moved}, C{published}, C{quarantined} or C{expired}.
    @ivar where: the store or destination in which it is.
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
class CertificateStatus:
    """
    The TLS certificate of a port.

    @ivar listen: the port, as the settings have it.
    @ivar expires: when it expires, in seconds since the epoch.
    @ivar problem: what is wrong with it, such as that it expires soon; empty if nothing is.
    """

    listen: str
    expires: float
    problem: str


@frozen(kw_only=True)
class Loss:
    """
    Says that no store takes crashes at present, and that crashes are being lost.

    @ivar since: when that began, in seconds since the epoch.
    @ivar refused: reports that were answered 503 since then.
    """

    since: float
    refused: int


@frozen(kw_only=True)
class Overview:
    """
    The state of a whole daemon at one moment.

    @ivar started: when the daemon started, in seconds since the epoch, as C{now}.
    @ivar connections: open connections to the public port.
    @ivar receiving: reports that are being received.
    @ivar saving: crashes that are being kept.
    @ivar moving: crashes that are being moved.
    @ivar totals: what was counted since the start, by name.
    @ivar rates: per second, at present.
    @ivar history: the rates of the last minutes, oldest first; one for each C{HISTORY_STEP_S} seconds.
    @ivar sinks: the destinations and publishers.
    @ivar workers: the processes that take submissions.
    @ivar movers: the processes that only move crashes; None: those that take submissions do it, or their parent.
    @ivar recent: the last crashes, newest first.
    @ivar loss: None if no crash is being lost.
    @ivar pressure: what is left out of new crashes because disks are nearly full, in words; empty if nothing is.
    @ivar draining: whether load balancers are told to send no more.
    @ivar host: the name of the host.
    @ivar submit_url: where clients on this host send their reports; empty if that is not known.
    @ivar trouble_since: when each trouble was noticed, by its key.
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
    answers: Sequence[AnswerCount]
    rules: Sequence[RuleCount]
    stores: Sequence[StoreStatus]
    sinks: Sequence[SinkStatus]
    workers: Sequence[WorkerStatus]
    recent: Sequence[Recent] = field(repr=False)
    movers: Sequence[WorkerStatus] | None = None
    loss: Loss | None = None
    draining: bool = False
    pressure: str = ""
    certificates: Sequence[CertificateStatus] = ()
    host: str = ""
    submit_url: str = ""
    trouble_since: Mapping[str, float] = field(factory=dict, repr=False)
    troubles: Sequence[Trouble] = field(init=False)

    @troubles.default
    def _all_troubles(self) -> Sequence[Trouble]:
        return [evolve(trouble, since=self.trouble_since.get(trouble.key)) for trouble in _troubles(self)]


_SOME = 0.05
"""Of what is told with one decimal, less than this is none."""


def _troubles(overview: Overview) -> Iterator[Trouble]:
    if all(worker.problem for worker in overview.workers):
        yield Trouble(where="No process", what="takes submissions: the log says why", anchor="workers")
    if overview.movers is not None and all(mover.problem for mover in overview.movers):
        yield Trouble(where="Crashmover", what="no process moves crashes: the log says why", anchor="workers")
    if overview.rates.lost >= _SOME and overview.loss is None:
        what = f"{overview.rates.lost:.1f} a second are answered 503, though a store takes crashes: the log says why"
        yield Trouble(where="Reports", what=what, anchor="answers")
    if overview.pressure:
        yield Trouble(where="Disk pressure", what=overview.pressure, anchor="stores")
    takes = [store.name for store in overview.stores if not store.problem]
    for store in overview.stores:
        if store.problem:
            goes_on = bool(takes) and overview.loss is None  # A store may have failed since it was looked at last.
            instead = f"Crashes go to {takes[0]} instead." if goes_on else _what_to_do(store)
            yield Trouble(where=f"Store {store.name}", what=store.problem, meanwhile=instead, anchor="stores")
    for sink in overview.sinks:
        if sink.problem:
            where = f"{sink.kind.capitalize()} {sink.name}"
            yield Trouble(where=where, what=sink.problem, meanwhile=_waiting(overview, sink), anchor="outlets")
    for worker in (*overview.workers, *(overview.movers or ())):
        if worker.problem:
            yield Trouble(where=worker.in_words.capitalize(), what=worker.problem, anchor="workers")
    for store in overview.stores:
        if store.quarantined:
            yield Trouble(
                where=f"Store {store.name}",
                what=f"{store.quarantined:,} in the quarantine",
                meanwhile="They are not moved until someone has looked: collectord quarantine list.",
                anchor="quarantine",
            )
    for certificate in overview.certificates:
        if certificate.problem:
            yield Trouble(where=f"Port {certificate.listen}", what=certificate.problem)
    if overview.draining:
        yield Trouble(where="It drains", what="load balancers are told to send no more reports here")


def _growing(rates: Rates) -> str:
    more = rates.kept - rates.moved
    return f", {more:.1f} more each second" if more >= _SOME else ""


def _what_to_do(store: StoreStatus) -> str:
    if store.is_full:
        return "Make room, or lower min_free_bytes and restart."
    return "It is tried again and again: see whether its disk or server answers."


def _waiting(overview: Overview, sink: SinkStatus) -> str:
    waiting = sum(store.backlog or 0 for store in overview.stores)
    wait = ""
    if waiting and sink.kind == "destination":
        wait = f"{waiting:,} crash{' waits' if waiting == 1 else 'es wait'}{_growing(overview.rates)}."
    again = f"It is tried again in {sink.resumes_in_s:.0f} s." if sink.resumes_in_s >= 0.5 else ""
    if not sink.is_tried:
        again = "It was not tried since: the next crash tries it."
    return " ".join(filter(None, (wait, again)))
