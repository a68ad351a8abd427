"""
C{twistd collectord}: its options, and where the daemon that is made of them logs to.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import define, field
from twisted.application.service import Application, MultiService
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent, globalLogPublisher

from collectord import __version__, tap
from collectord.daemon.root import CollectordService
from collectord.observe.logging.events import LineObserver
from tests.support.fakereactor import FakeReactor, gauges_of_before, signals_of_before
from tests.support.wait import until
from tests.unit.intake.parts import recorded_log

__all__ = ["gauges_of_before", "signals_of_before"]

pytestmark = pytest.mark.usefixtures("gauges_of_before", "signals_of_before")


@define
class Twistd:
    """A twistd in a directory of its own. @ivar settings: what its file says besides the store and the ports."""

    directory: Path
    reactor: FakeReactor = field(factory=FakeReactor)
    settings: str = ""

    def make(self, **options: Any) -> MultiService:
        """What C{twistd OPTIONS collectord --config a.toml} makes."""
        file = self.directory / "a.toml"
        store = f'[[storage]]\nroot = "{self.directory / "store"}"\n[admin]\nlisten = []\n'
        file.write_text(f'{store}[submission]\nlisten = ["tcp:8000:interface=127.0.0.1"]\n{self.settings}')
        given = tap.Options()
        given.parseOptions(["--config", str(file)])
        given.parent = cast(Any, options)
        return cast(MultiService, tap.makeService(given))

    def end(self) -> None:
        """What comes after the end of the reactor."""
        for function in self.reactor.at_shutdown:
            function()
        self.reactor.at_shutdown.clear()


@pytest.fixture
def twistd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twistd]:
    made = Twistd(tmp_path)
    monkeypatch.setattr("twisted.internet.reactor", made.reactor)
    monkeypatch.chdir(tmp_path)
    yield made
    made.end()


@define
class Made:
    """What the daemon was made with."""

    observer: LineObserver | None = None
    out: Callable[[bytes], object] | None = None


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    noted = Made()

    def note(load: Any, loaded: Any, observer: Any, out: Any, notifier: Any, reactor: Any) -> CollectordService:
        noted.observer, noted.out = observer, out
        return CollectordService(load, loaded, observer, out, notifier, reactor)

    monkeypatch.setattr(tap, "CollectordService", note)
    return noted


def test_the_service_is_the_daemon(twistd: Twistd) -> None:
    (daemon,) = twistd.make(nodaemon=True).services
    assert isinstance(daemon, CollectordService)
    assert daemon.snapshot.settings.submission.listen == ["tcp:8000:interface=127.0.0.1"]
    assert twistd.reactor.ports == []  # it is only made


def test_settings_that_are_bad_end_the_start_with_their_lines(twistd: Twistd) -> None:
    twistd.settings = "[nonsense]\n[other]\n"
    with pytest.raises(SystemExit) as told:
        twistd.make(nodaemon=True)
    lines = str(told.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("collectord: ") for line in lines)
    assert "[nonsense]: unknown key" in lines[0]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as told:
        tap.Options().parseOptions(["--version"])
    assert (told.value.code, capsys.readouterr().out) == (0, f"collectord {__version__}\n")


# ——— where it logs to ———


def test_in_the_foreground_it_logs_to_standard_output_and_so_do_workers(
    twistd: Twistd, made: Made, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(1, "w", closefd=False) as standard_output:
        monkeypatch.setattr(sys, "stdout", standard_output)
        twistd.make(nodaemon=True)
    assert made.observer is not None
    made.observer({"log_format": "it is here", "log_level": LogLevel.info, "log_time": 0.0})
    twistd.end()
    assert "it is here" in capfd.readouterr().out
    assert made.out is None
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN  # there is no file to rotate


def test_without_a_standard_output_it_logs_nowhere(twistd: Twistd, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    twistd.make(nodaemon=True)
    assert made.observer is not None


def test_a_log_file_is_begun_anew_at_sigusr1_and_takes_what_workers_log(twistd: Twistd, made: Made) -> None:
    twistd.make(nodaemon=True, logfile="a.log")
    assert made.out is not None
    made.out(b"before\n")
    until(lambda: Path("a.log").read_text() == "before\n")
    os.rename("a.log", "old.log")
    os.kill(os.getpid(), signal.SIGUSR1)
    until(Path("a.log").exists)
    made.out(b"after\n")
    twistd.end()
    assert [Path(name).read_text() for name in ("old.log", "a.log")] == ["before\n", "after\n"]


def test_a_log_file_that_can_not_be_written_ends_the_start(twistd: Twistd) -> None:
    with pytest.raises(SystemExit, match=r"^collectord: --logfile=no/a\.log: No such file or directory$"):
        twistd.make(nodaemon=True, logfile="no/a.log")


def test_in_the_background_it_logs_to_twistds_file_once_it_has_forked(twistd: Twistd, made: Made) -> None:
    twistd.make()
    assert made.out is not None
    made.out(b"a line\n")
    assert (twistd.directory / "twistd.log").read_text() == ""
    for function in twistd.reactor.when_running:
        function()
    twistd.end()
    assert (twistd.directory / "twistd.log").read_text() == "a line\n"


def test_to_syslog_each_line_has_its_priority(twistd: Twistd, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    def sink(prefix: str) -> Callable[[bytes], int]:
        assert prefix == "crashes"
        return lambda data: written.append(data) or len(data)  # type: ignore[func-returns-value]

    monkeypatch.setattr(tap, "syslog_sink", sink)
    twistd.make(nodaemon=True, syslog=True, prefix="crashes")
    assert made.observer is not None
    made.observer({"log_format": "it is here", "log_level": LogLevel.error, "log_time": 0.0})
    twistd.end()
    assert b"".join(written).startswith(b"<3>")
    assert b"it is here" in b"".join(written)


@pytest.mark.parametrize(
    "options", [{"logger": "some.observer"}, {"syslog": True, "prefix": "x"}], ids=["own", "syslog"]
)
def test_what_workers_log_is_logged_line_by_line_where_there_is_no_file(
    twistd: Twistd, made: Made, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap, "syslog_sink", lambda prefix: len)
    twistd.make(nodaemon=True, **options)
    assert made.out is not None
    with recorded_log() as log:
        made.out(b"one\ntwo \xff\n")
    assert [formatEvent(event) for event in log.events] == ["one", "two \N{REPLACEMENT CHARACTER}"]


def test_an_observer_of_the_operators_own_is_left_alone(twistd: Twistd, made: Made) -> None:
    application = Application("collectord")
    twistd.make(nodaemon=True, logger="some.observer").setServiceParent(application)
    assert made.observer is None
    assert application.getComponent(ILogObserver, None) is None


def test_what_the_application_logs_goes_through_our_observer(twistd: Twistd, made: Made) -> None:
    application = Application("collectord")
    twistd.make(nodaemon=True).setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is made.observer


def test_errors_go_to_sentry_until_the_end(twistd: Twistd, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sentry:
        def __init__(self) -> None:
            self.seen: list[LogEvent] = []
            self.closed = False

        def __call__(self, event: LogEvent) -> None:
            self.seen.append(event)

        def close(self) -> None:
            self.closed = True

    sentry = Sentry()
    monkeypatch.setattr(tap, "sentry_observer", lambda settings, version: sentry)
    twistd.make(nodaemon=True)
    Logger().info("a word")
    globalLogPublisher.removeObserver(cast(ILogObserver, sentry))
    assert [formatEvent(event) for event in sentry.seen] == ["a word"]
    twistd.end()
    assert sentry.closed
