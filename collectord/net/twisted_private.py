"""
The only module that relies on what Twisted does not promise: its private names, and how its own classes work inside.

Each use has a public name here. C{tests/unit/net/test_net_twisted_private.py} asserts that what it relies on is there
and behaves, and C{setup.py} bounds the version of Twisted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel


class HTTPConnection(HTTPChannel):
    """Twisted's HTTP/1 connection, with a public hook for requests that can't be understood."""

    @property
    def is_parsing(self) -> bool:
        """Whether bytes are being parsed: what comes meanwhile is parsed after them."""
        return bool(self._busyReceiving)

    def bad_request(self) -> None:
        """
        Answer what is no valid request. Twisted's own answer has no length, and closes at once.

        A subclass overrides it; it may be called more than once for one request.
        """
        super()._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.bad_request()


def send_now(transport: object, data: bytes) -> bytes:
    """
    Send what the socket of C{transport} takes at once, instead of waiting for the reactor's next turn.

    Nothing may be waiting in C{transport}, or C{data} would overtake it. Over TLS nothing is sent.

    @return: the rest, to be written as usual; nothing where the connection is lost.
    """
    if not (isinstance(transport, Connection) and transport.connected):
        return data
    sent = transport.writeSomeData(data)
    return data[sent:] if isinstance(sent, int) else b""


def accept_at_most(count: int, port: Any) -> Any:
    """
    Let C{port} accept at most C{count} connections before the reactor does what else there is to do.

    Twisted accepts a hundred, and more each time there are more. It doesn't stop in between where it is told to.

    @return: C{port}.
    """
    accept = port.doRead

    def accept_some() -> None:
        port.numberAccepts = count
        accept()

    port.doRead = accept_some
    return port


def divert(protocol: Any, received: Callable[[bytes], None]) -> Callable[[], None]:
    """
    Let C{received} take what a transport has for C{protocol}.

    @return: ends that.
    """
    protocol.dataReceived = received
    return lambda: delattr(protocol, "dataReceived")


def show_peer(transport: Any, peer: IAddress) -> None:
    """Let C{transport}, and what is built on it, name C{peer} as the other side of the connection."""
    transport.getPeer = lambda: peer


def lend(port: IListeningPort) -> None:
    """
    Leave what C{port} listens for to other processes that have its socket, too.

    It accepts nothing here. Without this, closing it would shut the socket down for the others as well.
    """
    lent: Any = port
    lent.stopReading()
    lent._shouldShutdown = False


def is_unfinished(connection: Any) -> bool:
    """
    Whether a connection of an HTTP client is in the middle of a request or an answer.

    @param connection: as the pool of the client hands it out.
    """
    return connection.state not in ("QUIESCENT", "CONNECTION_LOST")


def say_why_certificates_are_refused(options: Any, error_of: Callable[[int], Exception]) -> None:
    """
    Let a connection whose certificate OpenSSL refuses end with an error that says why. Twisted's does not say it.

    @param options: as C{optionsForClientTLS} makes them. What they refuse stays the same.
    @param error_of: makes the error of OpenSSL's number (C{X509_V_ERR_…}).
    """
    create = options._createConnection

    def noting(tls: Any) -> Any:
        connection = create(tls)
        set_verify = connection.set_verify

        def set_noting(mode: int, verify: Callable[..., bool]) -> None:
            def verify_and_note(connection: Any, certificate: Any, number: int, depth: int, ok: int) -> bool:
                if not ok:
                    tls.failVerification(Failure(error_of(number)))
                return verify(connection, certificate, number, depth, ok)

            set_verify(mode, verify_and_note)

        connection.set_verify = set_noting
        return connection

    options._createConnection = noting
