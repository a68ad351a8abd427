"""
A reload: all or nothing, one at a time, and one delivery pipeline after the other.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from collectord.concurrency.threadpool import at_once
from collectord.daemon.delivery import DeliveryPipeline
from collectord.daemon.reload import Reloader, ReplaceableDelivery
from collectord.errors import ConfigError
from collectord.metrics import REGISTRY
from collectord.net.listeners import Listeners
from collectord.observe.systemd import Notifier
from collectord.settings.schema import Crashmover, Settings, Submission
from collectord.settings.snapshot import SettingsSnapshot
from tests.support.cases import for_each
from tests.unit.intake.parts import recorded_log


def snapshot_of(**sections: Any) -> SettingsSnapshot:
    return SettingsSnapshot(settings=Settings(**sections), rules=[], rules_text=None, source="a.toml")


OTHER_MOVES = {"crashmover": Crashmover(interval_s=1.0)}


class FakeDelivery(Service):
    """The service of a delivery pipeline, and its pipeline. @ivar moves: a stop waits for it."""

    stop_s = 30.0

    def __init__(self, name: str, done: list[str]) -> None:
        self.label = name
        self.done = done
        self.moves: Deferred[None] | None = None
        self.service: Service | None = self

    def startService(self) -> None:
        super().startService()
        self.done.append(f"{self.label} starts")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.done.append(f"{self.label} stops")
        return self.moves or succeed(None)


@define
class FakeListeners:
    """Ports. @ivar error: what reading their certificates raises."""

    done: list[str]
    error: ConfigError | None = None

    def renewed(self) -> Callable[[], None]:
        if self.error is not None:
            raise self.error
        return lambda: self.done.append("renewed")


@define
class Rig:
    """
    A daemon that does nothing but to be reloaded.

    @ivar done: what the reload did to it, in order; a new delivery pipeline is "two".
    @ivar found: what the files say at each reload; the last one stays.
    @ivar applying: where it is a Deferred, putting settings into effect waits for it.
    """

    found: list[SettingsSnapshot | ConfigError | OSError]
    running: bool = True
    snapshot: SettingsSnapshot = field(factory=snapshot_of)
    done: list[str] = field(factory=list)
    reported: list[str] = field(factory=list)
    clock: Clock = field(factory=Clock)
    applying: Deferred[None] | None = None
    bad_delivery: ConfigError | None = None
    ports: FakeListeners = field(init=False)
    delivery: ReplaceableDelivery = field(init=False)
    one: FakeDelivery = field(init=False)
    reloader: Reloader = field(init=False)
    loads: int = 0

    def __attrs_post_init__(self) -> None:
        self.ports = FakeListeners(self.done)
        self.one = FakeDelivery("one", self.done)
        self.delivery = ReplaceableDelivery(cast(DeliveryPipeline, self.one), self.clock)
        self.delivery.startService()
        self.done.clear()
        self.reloader = Reloader(self, self.delivery, self.load, cast(Notifier, self), at_once)

    def load(self) -> SettingsSnapshot:
        self.loads += 1
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(found, Exception):
            raise found
        return found

    # What the reloader sees of the daemon

    @property
    def listeners(self) -> Sequence[Listeners]:
        return cast(Sequence[Listeners], [self.ports])

    def new_delivery(self, snapshot: SettingsSnapshot) -> DeliveryPipeline:
        if self.bad_delivery is not None:
            raise self.bad_delivery
        return cast(DeliveryPipeline, FakeDelivery("two", self.done))

    async def apply(self, snapshot: SettingsSnapshot) -> None:
        self.done.append("applied")
        self.snapshot = snapshot.keeping_restart_only(self.snapshot)
        if self.applying is not None:
            await self.applying

    # What it tells systemd

    def reloading(self) -> None:
        self.reported.append("reloading")

    def ready(self) -> None:
        self.reported.append("ready")

    def reload(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.reloader.reload())


def reloads(result: str) -> float:
    return REGISTRY.get_sample_value("collectord_reloads_total", {"result": result}) or 0


def test_settings_are_read_and_put_into_effect() -> None:
    rig = Rig([snapshot_of(submission=Submission(max_parts=7))])
    before = reloads("done")
    with recorded_log() as log:
        assert rig.reload().called
    assert rig.done == ["renewed", "applied"]
    assert rig.snapshot.settings.submission.max_parts == 7
    assert [formatEvent(event) for event in log.events] == ["the settings were read again"]
    assert rig.reported == ["reloading", "ready"]
    assert reloads("done") == before + 1


def test_what_takes_a_restart_is_said() -> None:
    rig = Rig([snapshot_of(submission=Submission(workers=7))])
    with recorded_log() as log:
        rig.reload()
    assert formatEvent(log.events[0]) == "[submission] workers has changed: that takes a restart"
    assert rig.snapshot.settings.submission.workers == 1


def bad_settings(rig: Rig) -> None:
    rig.found = [ConfigError("one is bad\nanother, too")]


def bad_certificates(rig: Rig) -> None:
    rig.ports.error = ConfigError("one is bad\nanother, too")


def bad_destination(rig: Rig) -> None:
    rig.found, rig.bad_delivery = [snapshot_of(**OTHER_MOVES)], ConfigError("one is bad\nanother, too")


@for_each("spoil", [bad_settings, bad_certificates, bad_destination], ids=lambda spoil: spoil.__name__)
def test_where_anything_is_bad_nothing_changes(spoil: Callable[[Rig], None]) -> None:
    rig = Rig([snapshot_of()])
    spoil(rig)
    before, refused = rig.snapshot, reloads("refused")
    with recorded_log() as log:
        assert rig.reload().called
    assert rig.done == []
    assert rig.snapshot == before
    assert rig.delivery.pipeline is cast(DeliveryPipeline, rig.one)
    assert [formatEvent(event) for event in log.events] == [
        "the settings are bad, and nothing changes: one is bad",
        "the settings are bad, and nothing changes: another, too",
    ]
    assert rig.reported == ["reloading", "ready"]
    assert reloads("refused") == refused + 1


def test_a_defect_is_told_to_whoever_asked_and_the_next_reload_works() -> None:
    rig = Rig([OSError("no memory"), snapshot_of()])
    failed, reported = reloads("failed"), list[Failure]()
    rig.reload().addErrback(reported.append)
    assert [failure.type for failure in reported] == [OSError]
    assert rig.reported == ["reloading", "ready"]
    assert reloads("failed") == failed + 1
    rig.reload()
    assert rig.done == ["renewed", "applied"]


def test_signals_that_come_during_a_reload_make_one_more() -> None:
    rig = Rig([snapshot_of()])
    rig.applying = Deferred()
    first = rig.reload()
    assert [rig.reload().called for _ in range(5)] == [True] * 5
    assert (first.called, rig.loads) == (False, 1)
    waiting, rig.applying = rig.applying, None
    waiting.callback(None)
    assert (first.called, rig.loads) == (True, 2)
    assert rig.reported == ["reloading", "ready"]


def test_a_daemon_that_stops_is_not_reloaded_and_does_not_say_that_it_is_ready() -> None:
    rig = Rig([snapshot_of()])
    rig.applying = Deferred()
    rig.reload()
    rig.reload()
    rig.running = False
    rig.applying.callback(None)
    assert rig.loads == 1
    assert rig.reported == ["reloading"]


def test_a_pipeline_whose_settings_are_the_same_goes_on() -> None:
    rig = Rig([snapshot_of(submission=Submission(max_parts=7))])
    rig.reload()
    assert rig.delivery.pipeline is cast(DeliveryPipeline, rig.one)


def test_the_old_pipeline_ends_before_the_new_one_starts() -> None:
    rig = Rig([snapshot_of(**OTHER_MOVES)])
    rig.one.moves = Deferred()
    reloaded = rig.reload()
    assert rig.done == ["renewed", "applied", "one stops"]
    assert not reloaded.called
    rig.one.moves.callback(None)
    assert rig.done[3:] == ["two starts"]
    assert reloaded.called
    assert rig.clock.getDelayedCalls() == []


def test_an_old_pipeline_that_does_not_end_is_given_up(logged_failures: list[LogEvent]) -> None:
    rig = Rig([snapshot_of(**OTHER_MOVES)])
    rig.one.moves = Deferred()
    reloaded = rig.reload()
    rig.clock.advance(39)
    assert not reloaded.called
    rig.clock.advance(1)
    assert rig.done[3:] == ["two starts"]
    (event,) = logged_failures
    assert formatEvent(event) == "the old delivery pipeline did not end in order"
    logged_failures.clear()


def test_a_stop_waits_for_the_old_pipeline_and_starts_no_new_one() -> None:
    rig = Rig([snapshot_of(**OTHER_MOVES)])
    rig.one.moves = Deferred()
    reloaded = rig.reload()
    stopped = rig.delivery.stopService()
    assert (stopped.called, reloaded.called) == (False, False)
    rig.one.moves.callback(None)
    assert (stopped.called, reloaded.called) == (True, True)
    assert "two starts" not in rig.done


def test_a_reload_that_is_cut_short_by_a_stop_replaces_nothing() -> None:
    rig = Rig([snapshot_of(**OTHER_MOVES)])
    rig.applying = Deferred()
    reloaded = rig.reload()
    assert rig.delivery.stopService().called
    rig.applying.callback(None)
    assert reloaded.called
    assert rig.done == ["renewed", "applied", "one stops"]
    assert rig.delivery.pipeline is cast(DeliveryPipeline, rig.one)


def test_moves_can_be_switched_off_and_on() -> None:
    rig = Rig([snapshot_of(**OTHER_MOVES)])
    off = FakeDelivery("off", rig.done)
    off.service = None
    assert Deferred.fromCoroutine(rig.delivery.replace(cast(DeliveryPipeline, off))).called
    assert rig.done == ["one stops"]
    rig.reload()
    assert rig.done == ["one stops", "renewed", "applied", "two starts"]
