"""
Until when the certificates are valid that ports are served with: told in time, at the start and each day.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.metrics import CERTIFICATE_EXPIRY
from collectord.observe.overview import Certificate
from collectord.threads import Workers
from collectord.web.admin.words import moment, span

DAY_S = 24 * 3600.0
SOON_S = 21 * DAY_S
_TLS = "tls:"


@frozen
class Validity:
    """
    Of the certificates of one port; where there are several, from the last that begins to the first that ends.

    @ivar listen: the port, as the settings have it.
    @ivar begins: in seconds since the epoch; C{ends} likewise.
    """

    listen: str
    begins: float
    ends: float

    def problem(self, now: float) -> str:
        """What is wrong with it, or soon will be, in words; empty: nothing is."""
        if self.ends <= now:
            return f"its certificate has expired: {moment(self.ends)} UTC, {span(now - self.ends)} ago"
        if self.ends <= now + SOON_S:
            return f"its certificate expires in {span(self.ends - now)}: {moment(self.ends)} UTC"
        if self.begins > now:
            return f"its certificate is not valid before {moment(self.begins)} UTC"
        return ""


def validity_of(listen: str, contexts: Any) -> Validity | None:
    """
    Of the certificates that a port is served with; it blocks.

    @param contexts: of an C{ssl} endpoint; None: it is another.
    @return: None: it has none.
    """
    if getattr(contexts, "certificate", None) is not None:
        found = [each.to_cryptography() for each in (contexts.certificate, *(contexts.extraCertChain or ()))]
    elif listen.startswith(_TLS):
        found = list(_in_directory(Path(listen.removeprefix(_TLS).partition(":")[0])))
    else:
        return None
    begins = [each.not_valid_before_utc.timestamp() for each in found]
    ends = [each.not_valid_after_utc.timestamp() for each in found]
    return Validity(listen, max(begins), min(ends)) if found else None


def _in_directory(path: Path) -> Iterator[x509.Certificate]:
    for file in sorted(path.glob("*.pem")):
        try:
            yield from x509.load_pem_x509_certificates(file.read_bytes())
        except (OSError, ValueError):
            continue  # a key alone; what can't be used, the endpoint says


class CertificateWatch(Service):
    """
    @param validities: of all ports; it is called on a thread.
    @param now: seconds since the epoch.
    """

    _log = Logger()

    def __init__(self, validities: Callable[[], Iterable[Validity]], now: Callable[[], float], reactor: Any) -> None:
        self._validities = validities
        self._now = now
        self._thread = Workers("certificates", 1, reactor.callFromThread)
        self._known: Sequence[Validity] = ()
        self._loop = LoopingCall(self.look)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._loop.start(DAY_S)

    def stopService(self) -> None:
        super().stopService()
        self._loop.stop()

    def look(self) -> Deferred[None]:
        """Look at them, and say what is wrong; at a reload they may be others."""
        return Deferred.fromCoroutine(self._look()).addErrback(
            lambda failure: self._log.failure("the certificates could not be looked at", failure)
        )

    async def _look(self) -> None:
        self._known = await self._thread(lambda: list(self._validities()))
        now = self._now()
        for each in self._known:
            CERTIFICATE_EXPIRY.labels(each.listen).set(each.ends)
            if problem := each.problem(now):
                tell = self._log.error if each.ends <= now else self._log.warn
                tell("{listen}: {problem}", listen=each.listen, problem=problem)

    def certificates(self) -> Sequence[Certificate]:
        """As the admin page shows them."""
        now = self._now()
        return [Certificate(listen=each.listen, expires=each.ends, problem=each.problem(now)) for each in self._known]
