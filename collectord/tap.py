"""
The entry of C{twistd collectord}: its command line, where it logs to, and the daemon.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.components import Componentized
from twisted.python.usage import Options as UsageOptions

from collectord import __version__
from collectord.concurrency.timeouts import use_monotonic_clock
from collectord.daemon.root import CollectordService
from collectord.errors import ConfigError
from collectord.observe.logging.events import LineObserver
from collectord.observe.logging.sinks import RotatingFile, descriptor_sink, syslog_sink
from collectord.observe.sentry import sentry_observer
from collectord.observe.systemd import Notifier
from collectord.settings.loading import DEFAULT_PATH
from collectord.settings.paths import is_service
from collectord.settings.schema import Logging
from collectord.settings.snapshot import load

_log = Logger()


class Options(UsageOptions):
    """The command line of C{twistd collectord}."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Takes crash reports by HTTP POST /submit, and answers a CrashID once a crash is durable. Without settings "
        "it listens on 127.0.0.1:8000, accepts every crash, and stores it under ./crashes; its admin page is at "
        "http://127.0.0.1:8001/. Every setting can also come from the environment: "
        "COLLECTORD_SUBMISSION__MAX_BODY_BYTES=1000000. SIGHUP reads the settings again."
    )
    optParameters = [  # noqa: RUF012  (so Twisted wants it)
        ["config", "c", None, f"the TOML file with the settings [default: {DEFAULT_PATH}, if it exists]"],
    ]

    def opt_version(self) -> None:
        """Show the version of collectord, and exit."""
        print(f"collectord {__version__}")
        sys.exit(0)


class Root(MultiService):
    """
    The service that twistd runs. It makes twistd log by our observer.

    @param observer: writes the log; None if twistd does.
    """

    def __init__(self, observer: ILogObserver | None) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:
        """Take the parent, and give our observer to twistd's application, which can be seen only here."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)


def makeService(options: Options) -> IService:
    """
    Make the daemon, as twistd asks for it.

    @raise SystemExit: the daemon can't run with these settings; the text says why, on one line for each problem.
    """
    from twisted.internet import reactor as any_reactor

    reactor = cast(Any, any_reactor)
    use_monotonic_clock(reactor)
    twistd = cast(Mapping[str, Any], options.parent or {})
    config = Path(options["config"]).absolute() if options["config"] else None
    try:
        service = not twistd.get("nodaemon") or is_service(
            os.environ, has_terminal=sys.stdin is not None and sys.stdin.isatty()
        )
        snapshot = load(config, service=service)
        observer, out = _observer(snapshot.settings.logging, twistd, reactor)
        sentry = sentry_observer(snapshot.settings.sentry, __version__)
        daemon = CollectordService(
            partial(load, config, service=service),
            snapshot,
            observer,
            out,
            Notifier.from_environment(os.environ),
            reactor,
        )
    except ConfigError as e:
        raise SystemExit("\n".join(f"collectord: {line}" for line in str(e).splitlines())) from e
    if sentry is not None:
        globalLogPublisher.addObserver(sentry)
        reactor.addSystemEventTrigger("after", "shutdown", sentry.close)
    root = Root(observer)
    daemon.setServiceParent(root)
    return root


def _observer(
    settings: Logging, twistd: Mapping[str, Any], reactor: Any
) -> tuple[LineObserver | None, Callable[[bytes], object] | None]:
    """
    Return what writes the log, and what takes the log lines of workers.

    The first is None if twistd writes the log, the second if workers write to standard output themselves.

    @raise ConfigError: the log file can't be opened.
    """
    if twistd.get("logger"):
        return None, _log_lines
    if twistd.get("syslog"):
        observer = LineObserver(syslog_sink(twistd["prefix"]), settings.format, settings.level, for_syslog=True)
        return _started(observer, twistd, reactor), _log_lines
    name = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    if name == "-":
        # There is no log file to open again. By default the signal would end the process.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        sink = len if sys.stdout is None else descriptor_sink(sys.stdout.fileno())
        return _started(LineObserver(sink, settings.format, settings.level), twistd, reactor), None
    try:
        file = RotatingFile(name)
    except OSError as e:
        raise ConfigError(f"--logfile={name}: {e.strerror}") from e
    observer = _started(LineObserver(file.write, settings.format, settings.level), twistd, reactor)
    signal.signal(signal.SIGUSR1, lambda *_: observer.writer.then(file.rotate))
    return observer, observer.writer


def _started(observer: LineObserver, twistd: Mapping[str, Any], reactor: Any) -> LineObserver:
    if twistd.get("nodaemon"):
        observer.writer.start()
    else:
        reactor.callWhenRunning(observer.writer.start)  # A thread does not survive the fork that comes before.
    reactor.addSystemEventTrigger("after", "shutdown", observer.writer.close)
    return observer


def _log_lines(data: bytes) -> None:
    for line in data.decode(errors="replace").splitlines():
        _log.info("{line}", line=line)
