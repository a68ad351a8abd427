"""
C{twistd collectord}: its command line, and the daemon that is made of it.
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
        "Takes crash reports by HTTP POST /submit and answers a CrashID once they are durable. Without a configuration "
        "it listens on 127.0.0.1:8000, keeps every crash, and keeps it under ./crashes; its admin page is on "
        "http://127.0.0.1:8001/. Every setting can also come from the environment: "
        "COLLECTORD_SUBMISSION__MAX_BODY_BYTES=1000000. SIGHUP reads the settings again."
    )
    optParameters = [  # noqa: RUF012  (so Twisted wants it)
        ["config", "c", None, f"the settings, a TOML file [default: {DEFAULT_PATH} if it is there]"],
    ]

    def opt_version(self) -> None:
        """Show the version of collectord, and exit."""
        print(f"collectord {__version__}")
        sys.exit(0)


class Root(MultiService):
    """All services. What the application logs goes through C{observer}."""

    def __init__(self, observer: ILogObserver | None) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:
        """twistd shows its application only here."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)


def makeService(options: Options) -> IService:
    """
    The daemon.

    @raise SystemExit: it can't run with these settings; the text says why.
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
        loaded = load(config, service=service)
        observer, out = _observer(loaded.settings.logging, twistd, reactor)
        sentry = sentry_observer(loaded.settings.sentry, __version__)
        daemon = CollectordService(
            partial(load, config, service=service),
            loaded,
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
    """What writes the log lines, and what takes those of workers; None: twistd, and the standard output."""
    if twistd.get("logger"):
        return None, _log_lines
    if twistd.get("syslog"):
        observer = LineObserver(syslog_sink(twistd["prefix"]), settings.format, settings.level, for_syslog=True)
        return _started(observer, twistd, reactor), _log_lines
    name = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    if name == "-":
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # there is no file to rotate; by default it would end the process
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
        reactor.callWhenRunning(observer.writer.start)  # it has forked by then
    reactor.addSystemEventTrigger("after", "shutdown", observer.writer.close)
    return observer


def _log_lines(data: bytes) -> None:
    for line in data.decode(errors="replace").splitlines():
        _log.info("{line}", line=line)
