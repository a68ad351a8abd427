"""
Opens listening ports by endpoint strings. Other processes can serve a port, and its certificate can be renewed.

An endpoint asks a reactor for its port. Here it is given an object instead that opens the port, or takes the one that
this process inherited, and that wraps TLS itself.
"""

import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any, cast

from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IListeningPort, IOpenSSLContextFactory
from twisted.internet.protocol import ServerFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from collectord.errors import ConfigError
from collectord.net.certificates import Validity, validity_of
from collectord.net.twisted_private import accept_at_most

BACKLOG = 1024
"""Clients that may wait in the kernel's accept queue. With Twisted's 50, a burst of clients sees resets."""

_TWISTEDS_OWN = 50
_AT_ONCE = 20
"""Connections that a port accepts before the reactor does something else."""

_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"
"""Of TLS 1.2, best first, all with forward secrecy. Windows 7 and 8 know only the last (CBC) for RSA certificates."""


class CannotListen(SystemExit, Exception):
    """
    A port can't be opened. It ends the start of the process with one line and no traceback.

    It is an C{Exception}, too, since a twistd that runs in the background reports nothing else to its parent, which
    would wait for ever.
    """


@implementer(IOpenSSLContextFactory)
class ServedCertificate:
    """
    Gives each new connection the current TLS context, so that a certificate can be renewed.

    @ivar contexts: the TLS context factory in use; it may be replaced at any time.
    """

    def __init__(self, contexts: Any) -> None:
        self.contexts = contexts

    def getContext(self) -> SSL.Context:
        """The TLS context for a new connection."""
        return cast(SSL.Context, self.contexts.getContext())


class _Lent:
    """
    The port of a unix socket that another process has opened.

    Closing it only stops reading. Twisted would also remove the socket's file, which belongs to the other process.
    """

    def __init__(self, port: Any) -> None:
        self.doRead, self.fileno = port.doRead, port.fileno
        self.startReading = port.startReading
        self.stopReading = self.stopListening = port.stopReading


class _Ports:
    """
    What an endpoint needs of a reactor: the methods that open ports.

    @param reactor: opens the ports. Where it is None, none is opened, and the endpoint string is only looked at.
    @param inherited: descriptor and address family of a listening socket to use instead of opening one, or None.
    @ivar contexts: the TLS context factory that the endpoint has made, if any.
    @ivar certificate: wraps C{contexts} for the port; None without TLS.
    @ivar interface: the address that the endpoint listens on; None where it is no TCP endpoint.
    """

    def __init__(self, reactor: Any, inherited: tuple[int, int] | None = None) -> None:
        self._reactor = reactor
        self._inherited = inherited
        self.contexts: Any = None
        self.certificate: ServedCertificate | None = None
        self.interface: str | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int = _TWISTEDS_OWN, interface: str = "") -> Any:
        self.interface = interface
        return self._listen(lambda f: self._reactor.listenTCP(port, f, _longer(backlog), interface), factory)

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = _TWISTEDS_OWN, mode: int = 0o666, wantPID: bool = False
    ) -> Any:
        return self._listen(lambda f: self._reactor.listenUNIX(address, f, _longer(backlog), mode, wantPID), factory)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = _TWISTEDS_OWN, interface: str = ""
    ) -> Any:
        self.contexts = contextFactory
        contextFactory.getContext().set_cipher_list(_CIPHERS)
        self.certificate = ServedCertificate(contextFactory)
        secure = TLSMemoryBIOFactory(self.certificate, False, factory)
        return self.listenTCP(port, secure, backlog, interface)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        return self._listen(lambda f: self._reactor.adoptStreamPort(fileDescriptor, addressFamily, f), factory)

    def _listen(self, listen: Callable[[Any], Any], factory: Any) -> Any:
        if self._reactor is None:
            return None
        if self._inherited is None:
            return accept_at_most(_AT_ONCE, listen(factory))
        port = _adopted(self._reactor, self._inherited, factory)
        return _Lent(port) if self._inherited[1] == socket.AF_UNIX else port


def _longer(backlog: int) -> int:
    return BACKLOG if backlog == _TWISTEDS_OWN else backlog


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
        self._in_use = {each: self._contexts(each) for each in descriptions if not each.startswith(_SYSTEMD)}
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
            if description.startswith(_SYSTEMD):
                self.ports.append(_adopted(self._reactor, each, factory))
            else:
                self._open(description, factory, each)
            os.close(each[0])  # the port has made a descriptor of its own
        return self.ports

    def _open(self, description: str, factory: Any, inherited: tuple[int, int] | None) -> None:
        ports = _Ports(self._reactor, inherited)
        failures: list[Failure] = []
        try:
            serverFromString(cast(Any, ports), description).listen(factory).addCallbacks(
                self.ports.append, failures.append
            )
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
        ports = _Ports(None)
        failures: list[Failure] = []
        try:
            serverFromString(cast(Any, ports), description).listen(ServerFactory()).addErrback(failures.append)
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
        if description.startswith(_SYSTEMD):
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


def _adopted(reactor: Any, inherited: tuple[int, int], factory: Any) -> Any:
    """A port for an inherited socket. It accepts one connection at a time: a busy process leaves the rest to others."""
    return accept_at_most(1, reactor.adoptStreamPort(*inherited, factory))


_SYSTEMD = "systemd:"
_NO_ENDPOINT = (ValueError, TypeError, LookupError, OSError, SSL.Error, crypto.Error, VerifyError)
