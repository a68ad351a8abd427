"""
Opens one port for an endpoint string, or takes the one that this process inherited.

An endpoint asks a reactor for its port. Here it is given an object instead, that also wraps TLS itself, so that a
certificate can be renewed, and takes the headers of the PROXY protocol off.
"""

import socket
from collections.abc import Callable
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IOpenSSLContextFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from collectord.net.proxyheader import WithProxyHeaders
from collectord.net.twisted_private import accept_at_most

BACKLOG = 1024
"""Clients that may wait in the kernel's accept queue. With Twisted's 50, a burst of clients sees resets."""

_TWISTEDS_OWN = 50
_AT_ONCE = 20
"""Connections that a port accepts before the reactor does something else."""

_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"
"""Of TLS 1.2, best first, all with forward secrecy. Windows 7 and 8 know only the last (CBC) for RSA certificates."""

_PROXIED: Final = "haproxy:"
_SYSTEMD: Final = "systemd:"


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


class Ports:
    """
    What an endpoint needs of a reactor: the methods that open ports.

    @param description: the endpoint string.
    @param reactor: opens the ports. Where it is None, none is opened, and the endpoint string is only looked at.
    @param inherited: descriptor and address family of a listening socket to use instead of opening one, or None.
    @ivar contexts: the TLS context factory that the endpoint has made, if any.
    @ivar certificate: wraps C{contexts} for the port; None without TLS.
    @ivar interface: the address that the endpoint listens on; None where it is no TCP endpoint.
    """

    def __init__(self, description: str, reactor: Any, inherited: tuple[int, int] | None = None) -> None:
        self._endpoint = description.removeprefix(_PROXIED)
        self._is_proxied = description != self._endpoint
        self._reactor = reactor
        self._inherited = inherited
        self.contexts: Any = None
        self.certificate: ServedCertificate | None = None
        self.interface: str | None = None

    def listen(self, factory: Any) -> Deferred[IListeningPort]:
        """
        Do what the endpoint string says. What is wrong with it is raised, or what the Deferred fails with.

        @param factory: makes the protocol of each connection.
        """
        opened: Deferred[IListeningPort] = serverFromString(cast(Any, self), self._endpoint).listen(factory)
        return opened

    def adopt(self, factory: Any) -> Any:
        """Return a port for the inherited socket, whatever the endpoint string says of it."""
        assert self._inherited is not None
        # It accepts one connection at a time: a busy process leaves the rest to others.
        return accept_at_most(1, self._reactor.adoptStreamPort(*self._inherited, self._expecting(factory)))

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
            return accept_at_most(_AT_ONCE, listen(self._expecting(factory)))
        port = self.adopt(factory)
        return _Lent(port) if self._inherited[1] == socket.AF_UNIX else port

    def _expecting(self, factory: Any) -> Any:
        return WithProxyHeaders(factory) if self._is_proxied else factory  # before TLS begins


def _longer(backlog: int) -> int:
    return BACKLOG if backlog == _TWISTEDS_OWN else backlog


def is_from_systemd(description: str) -> bool:
    """Whether the port of an endpoint string is one that systemd has opened."""
    return description.removeprefix(_PROXIED).startswith(_SYSTEMD)
