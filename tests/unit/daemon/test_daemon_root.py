"""
The whole daemon, without a process and a port: what starts, what signals do, and in which order it stops.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.logger import formatEvent

from collectord.daemon.root import CollectordService
from collectord.daemon.workers.messages import CHANNEL, TABLE, CrashEvents, Ready, Saving, encode
from collectord.duplicates.table import KeptTable
from collectord.errors import ConfigError
from collectord.metrics import REGISTRY
from collectord.model import CrashEvent, Step
from collectord.observe.journal.reader import events_of
from collectord.observe.systemd import Notifier
from collectord.settings.schema import Admin, Crashmover, Settings, StateDirectory, Submission
from collectord.settings.snapshot import SettingsSnapshot
from collectord.settings.stores import Storage
from tests.support.fakereactor import FakeProcess, FakeReactor
from tests.unit.intake.parts import LogRecorder, recorded_log

pytestmark = pytest.mark.usefixtures("threads_at_once", "signals_of_before", "gauges_of_before")

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
DIGEST = bytes(range(16))


@define
class Systemd:
    """What systemd hears of the daemon."""

    socket: socket.socket

    def heard(self) -> list[str]:
        words = []
        while True:
            try:
                words.append(self.socket.recv(4096).decode().partition("\n")[0])
            except BlockingIOError:
                return words


@define
class Rig:
    """A daemon over one store, or several. @ivar found: what the settings say at a reload."""

    tmp_path: Path
    notifier: Notifier
    reactor: FakeReactor = field(factory=FakeReactor)
    found: SettingsSnapshot | None = None

    def snapshot(self, *, stores: int = 1, **sections: Any) -> SettingsSnapshot:
        given: dict[str, Any] = {
            "storage": [Storage(root=self.tmp_path / f"store{n}", min_free_bytes=0) for n in range(stores)],
            "admin": Admin(listen=[]),
            "submission": Submission(listen=["tcp:8000:interface=127.0.0.1"]),
        }
        return SettingsSnapshot(settings=Settings(**(given | sections)), rules=[], rules_text=None, source="a.toml")

    def load(self) -> SettingsSnapshot:
        assert self.found is not None
        return self.found

    def daemon(self, **sections: Any) -> CollectordService:
        snapshot = self.snapshot(**sections)
        return CollectordService(self.load, snapshot, None, None, self.notifier, self.reactor)

    def started(self, **sections: Any) -> CollectordService:
        daemon = self.daemon(**sections)
        daemon.privilegedStartService()
        daemon.startService()
        return daemon


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(str(tmp_path / "notify"))
        yield Systemd(listening)


@pytest.fixture
def rig(tmp_path: Path, systemd: Systemd) -> Rig:
    return Rig(tmp_path, Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "notify")}))


@pytest.fixture
def log() -> Iterator[LogRecorder]:
    with recorded_log() as recorder:
        yield recorder


def lines(log: LogRecorder) -> list[str]:
    return [formatEvent(event) for event in log.events]


def submission(**settings: Any) -> dict[str, Any]:
    return {"submission": Submission(listen=["tcp:8000:interface=127.0.0.1"], **settings)}


def tell(process: FakeProcess, message: Any) -> None:
    process.protocol.childDataReceived(CHANNEL, encode(message) + b"\n")


def test_clients_are_let_in_and_systemd_is_told(rig: Rig, systemd: Systemd, log: LogRecorder) -> None:
    daemon = rig.daemon()
    daemon.privilegedStartService()
    (port,) = rig.reactor.ports
    assert (port.reading, systemd.heard()) == (False, [])
    daemon.startService()
    assert port.reading
    assert "taking crash reports on tcp:8000:interface=127.0.0.1" in lines(log)
    assert systemd.heard() == ["READY=1"]
    daemon.stopService()


def test_the_log_says_where_the_admin_page_is(rig: Rig, log: LogRecorder) -> None:
    daemon = rig.daemon(admin=Admin(listen=["tcp:8001:interface=127.0.0.1"]))
    daemon.privilegedStartService()
    assert "the admin page is on http://127.0.0.1:8001/" in lines(log)
    daemon.stopService()


def test_a_stop_drains_first_and_ends_the_journal_last(rig: Rig, systemd: Systemd) -> None:
    daemon = rig.started(**submission(drain_s=5.0))
    (port,) = rig.reactor.ports
    systemd.heard()
    stopped = daemon.stopService()
    assert systemd.heard() == ["STOPPING=1"]
    rig.reactor.advance(4.9)
    assert (port.closed, stopped.called) == (False, False)
    assert REGISTRY.get_sample_value("collectord_draining") == 1
    rig.reactor.advance(0.2)
    assert (port.closed, stopped.called) == (True, True)
    assert rig.reactor.getDelayedCalls() == []
    (journal,) = (rig.tmp_path / "store0" / "ledger").glob("*.journal")
    assert [line.split("\t")[1] for line in journal.read_text().splitlines()] == ["start", "stop"]


def test_what_happens_to_a_crash_in_a_worker_is_in_the_journal(rig: Rig) -> None:
    daemon = rig.started(**submission(workers=2))
    kept = CrashEvent(at=1e9, crash_id=CRASH_ID, kind="kept", where=str(rig.tmp_path / "store0"))
    tell(rig.reactor.processes[1], CrashEvents([kept]))
    rig.reactor.advance(0.5)
    (event,) = events_of(rig.tmp_path / "store0" / "ledger", CRASH_ID)
    assert (event.what, event.where) == ("kept", kept.where)
    stop(rig, daemon)


def test_workers_share_what_is_known_of_kept_reports(rig: Rig) -> None:
    daemon = rig.started(**submission(workers=2))
    one, two = (process.descriptors[TABLE] for process in rig.reactor.processes)
    assert one == two
    assert KeptTable(one).is_filled
    stop(rig, daemon)


def test_workers_know_which_crashes_were_moved(rig: Rig) -> None:
    daemon = rig.started(**submission(workers=2))
    (process, _) = rig.reactor.processes
    table = KeptTable(process.descriptors[TABLE])
    steps: list[tuple[Step, str, bool]] = [
        ("quarantined", "/a", False),
        ("moved", str(rig.tmp_path / "store0"), False),
        ("moved", "s3 crashes", True),
        ("removed", "/a", True),
    ]
    for kind, where, is_moved in steps:
        tell(process, CrashEvents([CrashEvent(at=1e9, crash_id=CRASH_ID, kind=kind, where=where)]))
        assert table.was_moved(CRASH_ID) is is_moved
    stop(rig, daemon)


def test_a_crash_that_is_kept_wakes_the_crashmover_of_its_store(rig: Rig) -> None:
    daemon = rig.started(stores=2, **submission(workers=2))
    before = len(rig.reactor.getDelayedCalls())
    for store, woken in (("store0", 0), ("store1", 1)):  # crashes that the primary keeps stay there
        event = CrashEvent(at=1e9, crash_id=CRASH_ID, kind="kept", where=str(rig.tmp_path / store))
        tell(rig.reactor.processes[0], CrashEvents([event]))
        assert len(rig.reactor.getDelayedCalls()) == before + woken
    stop(rig, daemon)


def test_what_the_parent_does_itself_yields_while_crashes_wait_for_a_disk_in_a_worker(rig: Rig) -> None:
    daemon = rig.started(stores=2, **submission(workers=2))
    primary, fallback = daemon._backends
    pipeline = daemon._delivery.pipeline
    for waited, is_pressed in ((0.1, False), (0.3, True), (0.0, False)):
        tell(rig.reactor.there[1], Saving({fallback.name: waited}))
        assert (primary.waited(), fallback.waited(), pipeline._is_pressed()) == (0.0, waited, is_pressed)
    stop(rig, daemon)


def stop(rig: Rig, daemon: CollectordService) -> None:
    stopped = daemon.stopService()
    for process in rig.reactor.there:
        process.end()
    assert stopped.called
    assert rig.reactor.getDelayedCalls() == []


def test_workers_are_ready_when_all_of_them_are(rig: Rig, systemd: Systemd) -> None:
    daemon = rig.started(**submission(workers=2))
    one, two = rig.reactor.processes
    tell(one, Ready())
    assert systemd.heard() == []
    tell(two, Ready())
    assert systemd.heard() == ["READY=1"]
    stop(rig, daemon)


def test_sighup_reloads(rig: Rig, systemd: Systemd, log: LogRecorder) -> None:
    daemon = rig.started()
    systemd.heard()
    rig.found = rig.snapshot(**submission(max_parts=7))
    os.kill(os.getpid(), signal.SIGHUP)
    assert daemon.snapshot.settings.submission.max_parts == 7
    assert "the settings were read again" in lines(log)
    assert systemd.heard() == ["RELOADING=1", "READY=1"]
    daemon.stopService()


def test_at_a_reload_workers_get_the_settings_of_now(rig: Rig) -> None:
    daemon = rig.started(**submission(workers=2))
    rig.found = rig.snapshot(**submission(max_parts=7, workers=2))
    os.kill(os.getpid(), signal.SIGHUP)
    assert [process.received[-1] for process in rig.reactor.processes] == [b"reload " + rig.found.to_wire() + b"\n"] * 2
    stop(rig, daemon)


def test_a_reload_makes_destinations_anew_and_keeps_what_takes_a_restart(rig: Rig, log: LogRecorder) -> None:
    daemon = rig.started()
    there = {"type": "filesystem", "root": str(rig.tmp_path / "there"), "min_free_bytes": 0}
    rig.found = rig.snapshot(
        stores=2, crashmover=Crashmover(destination=[there]), **submission(stop_s=1.0, drain_s=7.0)
    )
    os.kill(os.getpid(), signal.SIGHUP)
    assert f"{rig.tmp_path / 'there'} is ready" in lines(log)
    assert "[storage] has changed: that takes a restart" in lines(log)
    assert "[submission] stop_s has changed: that takes a restart" in lines(log)
    settings = daemon.snapshot.settings
    assert (len(settings.storage), settings.submission.stop_s, settings.submission.drain_s) == (1, 30.0, 7.0)
    stopped = daemon.stopService()
    rig.reactor.advance(7)
    assert stopped.called
    assert [path.name for path in (rig.tmp_path / "there" / "staging").iterdir()] == ["lock"]  # its own is gone


def test_sigusr2_replaces_workers(rig: Rig) -> None:
    daemon = rig.started(**submission(workers=2))
    for process in rig.reactor.processes:
        tell(process, Ready())
    os.kill(os.getpid(), signal.SIGUSR2)
    assert len(rig.reactor.processes) == 3
    stop(rig, daemon)


def test_sigusr2_without_workers_is_said(rig: Rig, log: LogRecorder) -> None:
    daemon = rig.started()
    os.kill(os.getpid(), signal.SIGUSR2)
    assert "SIGUSR2 replaces workers, and there are none: [submission] workers is 1" in lines(log)
    daemon.stopService()


def test_another_sigterm_does_not_stop_it_twice(rig: Rig, log: LogRecorder) -> None:
    stops: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stops.append(number))  # as the reactor's own
    daemon = rig.started()
    for function in rig.reactor.when_running:
        function()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stops == [signal.SIGTERM]
    assert lines(log)[-1] == "SIGTERM: stopping already"
    daemon.stopService()


def below_a_file(rig: Rig) -> Path:
    (rig.tmp_path / "file").touch()
    return rig.tmp_path / "file" / "state"


def in_a_store(rig: Rig) -> Path:
    return rig.tmp_path / "store0" / "state"


@pytest.mark.parametrize(
    ("directory", "said"),
    [
        (below_a_file, "can't be written ([Errno 20] Not a directory"),
        (in_a_store, "are on one file system: without it nobody knows that it is not mounted"),
    ],
    ids=["unwritable", "beside the store"],
)
def test_a_state_directory_that_protects_from_nothing_is_said(
    rig: Rig,
    log: LogRecorder,
    monkeypatch: pytest.MonkeyPatch,
    directory: Callable[[Rig], Path],
    said: str,
) -> None:
    monkeypatch.setattr("collectord.daemon.statecheck.mount_of_its_own", lambda path: str(rig.tmp_path))
    daemon = rig.started(state=StateDirectory(directory=directory(rig)))
    assert [line for line in lines(log) if said in line]
    daemon.stopService()


def test_a_destination_that_can_not_be_made_is_told_with_the_name_of_the_file(rig: Rig) -> None:
    with pytest.raises(ConfigError, match=r"^a\.toml: \[\[crashmover\.destination\]\] 0 type = 'pigeon'"):
        rig.daemon(crashmover=Crashmover(destination=[{"type": "pigeon"}]))
