"""
The watch over the certificates of the ports: at the start and each day, it logs which ones expire soon.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.admin.format import moment, span
from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.metrics import CERTIFICATE_EXPIRY
from collectord.net.certificates import Validity
from collectord.observe.status import CertificateStatus

DAY_S = 24 * 3600.0
SOON_S = 21 * DAY_S


def problem_of(validity: Validity, now: float) -> str:
    """
    Say in words what is wrong with a certificate, or will be within three weeks; empty if nothing is.

    @param now: seconds since the epoch.
    """
    ends, begins = validity.ends, validity.begins
    if ends <= now:
        return f"its certificate has expired: {moment(ends)} UTC, {span(now - ends)} ago"
    if ends <= now + SOON_S:
        return f"its certificate expires in {span(ends - now)}: {moment(ends)} UTC"
    if begins > now:
        return f"its certificate is not valid before {moment(begins)} UTC"
    return ""


class CertificateWatch(Service):
    """
    Looks at the certificates of all ports once a day, and after a reload.

    @param validities: reads how long the certificates are valid. It may block, and is called on a thread.
    @param now: returns the time in seconds since the epoch.
    """

    _log = Logger()

    def __init__(self, validities: Callable[[], Iterable[Validity]], now: Callable[[], float], reactor: Any) -> None:
        self._validities = validities
        self._now = now
        self._thread = ThreadPool("certificates", 1, reactor.callFromThread)
        self._known: Sequence[Validity] = ()
        self._loop = LoopingCall(self.check)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._loop.start(DAY_S)

    def stopService(self) -> None:
        super().stopService()
        self._loop.stop()

    def check(self) -> Deferred[None]:
        """Look at the certificates now, and log what is wrong. A reload may have changed them."""
        return spawn(self._check(), self._log, "the certificates could not be looked at")

    async def _check(self) -> None:
        self._known = await self._thread(lambda: list(self._validities()))
        now = self._now()
        for each in self._known:
            CERTIFICATE_EXPIRY.labels(each.listen).set(each.ends)
            if problem := problem_of(each, now):
                log = self._log.error if each.ends <= now else self._log.warn
                log("{listen}: {problem}", listen=each.listen, problem=problem)

    def certificates(self) -> Sequence[CertificateStatus]:
        """Return the certificates as the admin page shows them, as of the last look."""
        now = self._now()
        return [
            CertificateStatus(listen=each.listen, expires=each.ends, problem=problem_of(each, now))
            for each in self._known
        ]
