"""
Blocking HTTP requests to one server, over connections that are kept open; for threads.
"""

import http.client
import select
import socket
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from attrs import field, frozen

from collectord.storage.objects.answers import Headers, HeadReader

_READ = 1024 * 1024
"""How much is read at a time to be sent."""
_UNSENT = 128 * 1024
"""
How much the system takes before it is sent. With TLS so much is handed over at a time, since all of that has to get
through within the time limit, also where a link is slow; else only some of it.
"""
_MOST = 64 * 1024
"""The most bytes that are read of the body of an answer."""
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""What OpenSSL says, by its version, of an answer that is no TLS."""
_RESET = BrokenPipeError | ConnectionResetError | ConnectionAbortedError
_CUT_OFF = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError)


class Readable(Protocol):
    """A file that is read while it is sent."""

    def read(self, size: int = -1, /) -> bytes: ...


class NoAnswer(Exception):
    """The server can't be reached, or gave no whole answer. The text says in words what happened."""


@frozen
class Answer:
    """
    An answer of the server.

    @ivar body: 64 KiB of it at most, unless it was asked for.
    """

    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


def trusting(ca_file: Path) -> ssl.SSLContext:
    """
    Make the TLS settings of a client that trusts the certificates in a PEM file, and none of the system's.

    @raise ValueError: the file can't be read, or has no certificate in it; the text says which.
    """
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError as e:
        raise ValueError("there is no PEM certificate in it") from e
    except OSError as e:
        raise ValueError(e.strerror) from e


class Connections:
    """
    The connections to one server. Its methods block, and may be called from several threads at the same time.

    Proxies are used as the environment says: C{HTTPS_PROXY}, C{HTTP_PROXY} and C{NO_PROXY}.

    @param url: of the server: the scheme, the host and perhaps a port.
    @param tls: None: the certificates that the system trusts.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None, *, connect_timeout: float, read_timeout: float) -> None:
        self._url = urlsplit(url)
        self._shown = f"{self._url.scheme}://{self._url.netloc}"
        self._tls = ssl.create_default_context() if tls is None and self._url.scheme == "https" else tls
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._closed = False
        proxy = None if proxy_bypass(self._url.hostname or "") else getproxies().get(self._url.scheme)
        self._proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None

    @property
    def host(self) -> str:
        """The value of the Host header."""
        return self._url.netloc

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Readable,
        *,
        whole: bool = False,
    ) -> Answer:
        """
        Send a request, and return the answer, whatever its status is.

        @param target: the path and the query, encoded.
        @param whole: read the whole body of the answer, however large it is.
        @param headers: with C{host}, and with the C{content-length} of a body.

        @raise NoAnswer: there is no answer. The server may have done what it was asked for all the same.
        """
        connection = self._take() or self._open()
        if self._proxy is not None and self._url.scheme == "http":
            target, headers = self._shown + target, {**headers, **_authorization(self._proxy)}
        try:
            with closing(_send(connection, method, target, headers, body)) as response:
                answer = Answer(
                    response.status, response.reason, response.head, response.read(None if whole else _MOST)
                )
                is_usable = response.isclosed() and not response.will_close
        except BaseException as e:
            connection.close()
            if isinstance(e, OSError | http.client.HTTPException):
                raise NoAnswer(how_it_broke(self._shown, e, self._read_timeout)) from e
            raise
        if is_usable and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close the idle connections now, and those in use after their answer."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _take(self) -> http.client.HTTPConnection | None:
        """Take the connection that was used last, unless the server has closed it meanwhile."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                readable = select.poll()
                readable.register(connection.sock, select.POLLIN)
                if not readable.poll(0):
                    return connection
                connection.close()
        return None

    def _open(self) -> http.client.HTTPConnection:
        place = self._proxy or self._url
        host, timeout = place.hostname or "", self._connect_timeout
        connection: http.client.HTTPConnection
        if self._url.scheme == "https":
            secure = http.client.HTTPSConnection(host, place.port, timeout=timeout, context=self._tls)
            if self._proxy is not None:
                secure.set_tunnel(self._url.hostname or "", self._url.port, dict(_authorization(self._proxy)))
            connection = secure
        else:
            connection = http.client.HTTPConnection(host, place.port, timeout=timeout)
        try:
            connection.connect()
            connection.sock.settimeout(self._read_timeout)
            # Otherwise the system would take some megabytes at once, and only the wait for the answer would be limited.
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise NoAnswer(self._why_unreachable(e)) from e
        return connection

    def _why_unreachable(self, error: Exception) -> str:
        by = f" by the proxy {self._proxy.hostname}:{self._proxy.port}" if self._proxy is not None else ""
        return f"no connection to {self._shown}{by} ({why_unreachable(error, self._connect_timeout)})"


def why_unreachable(error: Exception, timeout: float) -> str:
    """Say why there is no connection. C{timeout} are the seconds that were allowed."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return _tls_failure(error)
        case TimeoutError():
            return f"nothing within {timeout:g} s"
        case OSError():
            return error.strerror or str(error)
        case _:
            return str(error)


def is_broken(error: Exception) -> bool:
    """Tell whether C{error} is that of a connection which the server has ended too early."""
    return isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead | _RESET)


def how_it_broke(shown: str, error: Exception, timeout: float) -> str:
    """Say how a connection to C{shown} has failed. C{timeout} are the seconds that an answer may take."""
    match error:
        case TimeoutError():
            return f"{shown} did not answer within {timeout:g} s"
        case _ if is_broken(error):
            return f"{shown} hung up before its answer was complete"
        case http.client.HTTPException():
            return f"the answer of {shown} is no HTTP ({type(error).__name__})"
        case _:
            return f"the connection to {shown} failed: {error}"


def _tls_failure(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    return f"TLS failed: {reason}{'; this port speaks no TLS' if error.reason in _NO_TLS else ''}"


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | Readable,
) -> HeadReader:
    head = "\r\n".join(
        [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    )
    if head.count("\n") != len(headers) + 2:
        raise ValueError("a header of a request has a line end in it")
    file = BytesIO(body) if isinstance(body, bytes) else body
    try:
        # In one piece where it is small. The library would send it in two, and look at each header for much longer.
        _send_all(connection.sock, head.encode() + file.read(_READ))
        while block := file.read(_READ):
            _send_all(connection.sock, block)
    except _CUT_OFF as e:
        # A server that refuses a request may answer and hang up before it has read all of it.
        try:
            return _answer_on(connection, method)
        except (OSError, http.client.HTTPException):
            raise e from None
    return _answer_on(connection, method)


def _send_all(sock: socket.socket, data: bytes) -> None:
    """Send all of C{data}. As long as some of it gets through within the time limit, it takes as long as it takes."""
    most = _UNSENT if isinstance(sock, ssl.SSLSocket) else len(data)
    rest = memoryview(data)
    while rest:
        rest = rest[sock.send(rest[:most]) :]


def _answer_on(connection: http.client.HTTPConnection, method: str) -> HeadReader:
    response = HeadReader(connection.sock, method)
    try:
        response.begin()
    except BaseException:
        response.close()  # it keeps the socket open
        raise
    return response


def _authorization(proxy: SplitResult) -> Mapping[str, str]:
    if not proxy.username:
        return {}
    given = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(given.encode()).decode()}"}
