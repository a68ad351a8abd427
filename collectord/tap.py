"""
C{twistd collectord}: the one place that knows every part, and the reactor.
"""

import random
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast
from uuid import uuid4

from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import serverFromString
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile
from twisted.python.usage import Options as UsageOptions

import twisted
from collectord import __version__
from collectord.collector import Collector
from collectord.config import DEFAULT_PATH, Settings, load_settings
from collectord.config import Storage as StorageSettings
from collectord.errors import ConfigError
from collectord.intake.channel import Patience
from collectord.intake.receiver import Limits, ReportReceiver
from collectord.intake.request import StreamingRequest
from collectord.intake.site import StreamingSite
from collectord.intake.spool import MemoryBudget
from collectord.model import Annotations
from collectord.moving import Moving
from collectord.observe.logs import LineObserver
from collectord.service import CollectorService
from collectord.storage.fallback import FallbackCrashStorage, Link, ProbeService
from collectord.storage.kinds import filesystem_store
from collectord.threads import CallFromThread
from collectord.throttle.load import load_rules
from collectord.throttle.rules import Rule, Verdict, throttle
from collectord.web.site import PublicSite

_log = Logger()
_BACKLOG = 1024
_OTHER_FILES = 2048
"""Open files that are not connections: mostly those of the crashes that are being committed."""


class Options(UsageOptions):
    """The command line of C{twistd collectord}."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Takes crash reports by HTTP POST /submit and answers a CrashID once they are durable. Without a configuration "
        "it listens on 127.0.0.1:8000, keeps every crash, and keeps it under ./crashes. Every setting can also come "
        "from the environment: COLLECTORD_SUBMISSION__MAX_BODY_BYTES=1000000."
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
    try:
        settings = load_settings(Path(options["config"]) if options["config"] else None)
        rules = load_rules(settings.throttle.rules, settings.throttle.products)
        links = [_link(store, reactor) for store in settings.storage]
        moving = Moving(settings, links, reactor)
    except ConfigError as e:
        raise SystemExit("\n".join(f"collectord: {line}" for line in str(e).splitlines())) from e
    root = Root(_observer(settings, cast(Mapping[str, Any], options.parent or {}), reactor.callFromThread))
    stores = FallbackCrashStorage(links, reactor)
    ProbeService(stores, reactor).setServiceParent(root)
    if moving.service is not None:
        moving.service.setServiceParent(root)
    collector = _collector(settings, rules, stores, moving.hint, reactor)
    budget = MemoryBudget(settings.submission.memory_bytes)
    limits = Limits(
        body=settings.submission.max_body_bytes,
        parts=settings.submission.max_parts,
        annotations=settings.submission.max_annotation_bytes,
    )

    def receiver_for(request: StreamingRequest, length: int | None) -> ReportReceiver:
        return ReportReceiver(limits, budget, stores, request.requestHeaders, length, request.channel)

    public = PublicSite(collector, receiver_for, stores, settings.submission.dump_id_prefix, version())
    site = StreamingSite(
        public.resource(),
        public.body_for,
        patience=Patience(idle=settings.submission.idle_timeout_s, min_rate=settings.submission.min_rate_bytes_s),
        max_connections=_affordable(settings.submission.max_connections),
        clock=reactor,
    )
    endpoints = {}
    for description in settings.submission.listen:
        try:
            endpoints[description] = serverFromString(reactor, _with_backlog(description))
        except (ValueError, TypeError, LookupError, OSError) as e:
            raise SystemExit(
                f"collectord: [submission] listen = {description!r}: {e}; an example: tcp:8000:interface=127.0.0.1"
            ) from e
    CollectorService(endpoints, site, public, stores, reactor, stop=settings.submission.stop_s).setServiceParent(root)
    return root


def version() -> dict[str, str]:
    """For C{/__version__}."""
    return {
        "source": "collectord",
        "version": __version__,
        "commit": "",
        "build": "",
        "python": ".".join(map(str, sys.version_info[:3])),
        "twisted": twisted.__version__,
    }


def _link(settings: StorageSettings, reactor: Any) -> Link:
    store = filesystem_store(settings, settings.timeout_s, reactor, settings.threads)
    return Link(name=store.name, storage=store, staging=store, timeout=settings.timeout_s)


def _collector(
    settings: Settings,
    rules: tuple[Rule, ...],
    stores: FallbackCrashStorage,
    kept: Callable[[str], None],
    reactor: Any,
) -> Collector:
    chance = random.Random()  # noqa: S311  (a sample, not a secret)

    def judge(annotations: Annotations) -> Verdict:
        return throttle(rules, annotations, lambda: chance.random() * 100, datetime.now(UTC).date())

    return Collector(
        throttle=judge,
        storage=stores,
        now=partial(datetime.now, UTC),
        seconds=reactor.seconds,
        uuid4=uuid4,
        token=settings.submission.submitter_token,
        aliases=settings.submission.annotation_aliases,
        remove=frozenset(settings.submission.remove_annotations),
        kept=kept,
    )


def _affordable(connections: int) -> int:
    """So many connections, or what the limit of open files leaves for them; the soft limit is raised first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    affordable = max(1, hard - min(_OTHER_FILES, hard // 2))
    if affordable < connections:
        _log.info(
            "max_connections is {wanted}; the limit of {hard} open files (LimitNOFILE, ulimit -n) leaves {affordable}",
            wanted=connections,
            hard=hard,
            affordable=affordable,
        )
    return min(connections, affordable)


def _observer(settings: Settings, twistd: Mapping[str, Any], call_from_thread: CallFromThread) -> ILogObserver | None:
    if twistd.get("logger") or twistd.get("syslog"):
        return None
    return LineObserver(_log_file(twistd, call_from_thread), settings.logging.format, settings.logging.level)


def _log_file(twistd: Mapping[str, Any], call_from_thread: CallFromThread) -> TextIO:
    name = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    if name == "-":
        return sys.stdout
    log_file = LogFile.fromFullPath(name, defaultMode=0o640)
    signal.signal(signal.SIGUSR1, lambda *_: call_from_thread(log_file.rotate))  # as twistd does with a log of its own
    return cast(TextIO, log_file)


def _with_backlog(description: str) -> str:
    # Twisted's own backlog of 50 resets clients in a burst.
    kind = description.partition(":")[0]
    if kind in ("tcp", "tcp6", "ssl", "unix") and ":backlog=" not in description:
        return f"{description}:backlog={_BACKLOG}"
    return description
