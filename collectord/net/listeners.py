"""
Opens listening ports by endpoint strings. Other processes can serve a port, and its certificate can be renewed.
"""

import os
import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any, cast

from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from collectord.errors import ConfigError
from collectord.net.certificates import Validity, validity_of
from collectord.net.ports import BACKLOG, Ports, ServedCertificate, is_from_systemd


class CannotListen(SystemExit, Exception):
    """
    A port can't be opened. It ends the start of the process with one line and no traceback.

    It is an C{Exception}, too, since a twistd that runs in the background reports nothing else to its parent, which
    would wait for ever.
    """


class Listeners:
    """
    The ports of one section of the settings, which lists them as endpoint strings.

    To make one reads the certificates, and so blocks.

    @param descriptions: the endpoint strings.
    @param section: the name of the section, for the texts of errors.
    @param local: no port may be reachable from another host.

    @raise ConfigError: one is no endpoint string, its certificate can't be used, or it is reachable and must not be.
    """

    def __init__(self, descriptions: Sequence[str], section: str, reactor: Any, *, local: bool = False) -> None:
        self.descriptions = descriptions
        self._section = section
        self._local = local
        self._reactor = reactor
        self._certificates: dict[str, ServedCertificate] = {}
        self._in_use = {each: self._contexts(each) for each in descriptions if not is_from_systemd(each)}
        self.ports: list[IListeningPort] = []

    def open(self, factory: Any) -> Sequence[IListeningPort]:
        """
        Open the ports.

        @param factory: makes the protocol of each connection.
        @raise CannotListen: one can't be opened.
        """
        for description in self.descriptions:
            self._open(description, factory, None)
        return self.ports

    def adopt(self, factory: Any, inherited: Sequence[tuple[int, int]]) -> Sequence[IListeningPort]:
        """
        Use ports that another process has opened.

        @param factory: makes the protocol of each connection.
        @param inherited: descriptor and address family of each port, in the order of the endpoint strings.
        """
        for description, each in zip(self.descriptions, inherited, strict=True):
            if is_from_systemd(description):
                self.ports.append(Ports(description, self._reactor, each).adopt(factory))
            else:
                self._open(description, factory, each)
            os.close(each[0])  # the port has made a descriptor of its own
        return self.ports

    def _open(self, description: str, factory: Any, inherited: tuple[int, int] | None) -> None:
        ports = Ports(description, self._reactor, inherited)
        failures: list[Failure] = []
        try:
            ports.listen(factory).addCallbacks(self.ports.append, failures.append)
        except _NO_ENDPOINT as e:
            raise CannotListen(f"collectord: {self._wrong(description, e)}") from e
        if failures:
            raise CannotListen(f"collectord: can't listen on {description}: {failures[0].getErrorMessage()}")
        if ports.certificate is not None:
            self._certificates[description] = ports.certificate
        if self._local and self._is_open():  # nothing was known before of one that systemd has opened
            raise CannotListen(f"collectord: {self._open_to_all(description)}")

    def renewed(self) -> Callable[[], None]:
        """
        Read the certificates again. It blocks, so it is for a thread.

        @return: puts them to use when it is called, on the reactor thread.
        @raise ConfigError: one can't be used.
        """
        contexts = {each: self._contexts(each) for each, used in self._in_use.items() if used is not None}

        def use() -> None:
            self._in_use |= contexts
            for description, certificate in self._certificates.items():
                certificate.contexts = contexts[description]

        return use

    def validities(self) -> Iterator[Validity]:
        """How long the certificates in use are valid. It may read files, so it is for a thread."""
        for description, contexts in self._in_use.items():
            if (validity := validity_of(description, contexts)) is not None:
                yield validity

    def _contexts(self, description: str) -> Any:
        ports = Ports(description, None)
        failures: list[Failure] = []
        try:
            ports.listen(ServerFactory()).addErrback(failures.append)
        except _NO_ENDPOINT as e:
            raise ConfigError(self._wrong(description, e)) from e
        if failures:
            raise ConfigError(self._wrong(description, failures[0].value))
        if self._local and ports.interface is not None and not is_loopback(ports.interface):
            raise ConfigError(self._open_to_all(description))
        return ports.contexts

    def _is_open(self) -> bool:
        host = getattr(self.ports[-1].getHost(), "host", None)  # a unix socket has none
        return host is not None and not is_loopback(host)

    def _open_to_all(self, description: str) -> str:
        return (
            f"[{self._section}] listen = {description!r}: whoever reaches it may look at crash data: set a token, or "
            "interface=127.0.0.1; or, if it is meant, allow_open = true"
        )

    def _wrong(self, description: str, error: BaseException | None) -> str:
        what = f"[{self._section}] listen = {description!r}: "
        if is_from_systemd(description):
            handed = os.environ.get("LISTEN_FDNAMES") or "none"
            return f"{what}systemd handed over no such socket ({handed}): see FileDescriptorName= of its socket unit"
        if isinstance(error, OSError) and error.filename:
            return f"{what}{error.filename}: {error.strerror}"
        if isinstance(error, SSL.Error | VerifyError):
            return f"{what}{error}"
        return f"{what}{str(error) or type(error).__name__}; an example: tcp:8000:interface=127.0.0.1"


def is_loopback(host: str) -> bool:
    """Whether C{host}, an address or name to listen on, is reachable from this host alone."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


async def close_ports(ports: Iterable[IListeningPort]) -> None:
    """Close C{ports}."""
    for port in ports:
        stopped = port.stopListening()
        if isinstance(stopped, Deferred):
            await stopped


def take_waiting(ports: Iterable[IListeningPort], may_take: Callable[[], bool]) -> None:
    """
    Accept the connections that wait in the accept queues of C{ports}, since the kernel resets them when a port closes.

    @param may_take: whether there is room for another connection.
    """
    for port in cast(Iterable[Any], ports):
        waiting = select.poll()
        waiting.register(port.fileno(), select.POLLIN)
        for _ in range(BACKLOG):  # at most, since accepting may fail again and again
            if not may_take() or not waiting.poll(0):
                break
            port.doRead()


_NO_ENDPOINT = (ValueError, TypeError, LookupError, OSError, SSL.Error, crypto.Error, VerifyError)
