"""
A connection to a NATS server, for requests that are answered. All of it is for the reactor thread.

The protocol is a few lines of text. NATS' own client for Python runs on asyncio only, so it would need a thread and an
event loop of its own.
"""

import json
from collections.abc import Mapping
from secrets import token_hex
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from collectord import __version__
from collectord.publish.natskeys import NatsCredentials

_LONGEST = 1024 * 1024
"""The most bytes of a line, or of a message, that are waited for."""
_NO_RESPONDERS = b"503"


class NatsError(Exception):
    """A server refuses something, or does not speak NATS; the text says what, in the words of the server."""


class NoResponders(NatsError):
    """Nobody listens to the subject of a request."""


@define(eq=False)
class NatsConnection(Protocol):
    """
    A connection, from the first byte to its end.

    @param login: the fields of C{CONNECT} that say who this is, such as C{user} and C{pass}.
    @param credentials: with which to sign what the server asks to be signed; None: with none.
    @param tls: Twisted's options of a TLS connection, which begins once the server has said that it speaks it.
    @param wants_tls: to use TLS even if the server does not insist on it.
    @param inbox: the beginning of the subjects that answers come to.

    @ivar opened: fires once the server has let this client in.
    @ivar is_let_in: whether that has happened.
    @ivar ended: why the connection can't be used any more; None: it can.
    """

    _login: Mapping[str, str]
    _credentials: NatsCredentials | None
    _tls: Any
    _wants_tls: bool
    _inbox: str
    opened: Deferred[None] = field(factory=Deferred, init=False)
    is_let_in: bool = field(default=False, init=False)
    ended: Exception | None = field(default=None, init=False)
    _received: bytes = field(default=b"", init=False)
    _message: tuple[str, int, int] | None = field(default=None, init=False)
    _greeted: bool = field(default=False, init=False)
    _requests: dict[str, tuple[str, Deferred[bytes]]] = field(factory=dict, init=False)
    _count: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._inbox = f"{self._inbox}.{token_hex(11)}"

    def request(self, subject: str, payload: bytes) -> Deferred[bytes]:
        """
        Publish a message, and return the answer to it. A cancel only ends the waiting.

        It fails with L{NoResponders} if nobody listens, and with L{NatsError} if this client may not publish there.
        """
        if self.ended is not None:
            return fail(self.ended)
        self._count += 1
        number = str(self._count)
        answer: Deferred[bytes] = Deferred(lambda _: self._requests.__delitem__(number))
        self._requests[number] = subject, answer
        self._write(f"PUB {subject} {self._inbox}.{number} {len(payload)}".encode(), payload)
        return answer

    def abort(self, error: Exception | None = None) -> None:
        """End the connection now. What waits for an answer fails with C{error}."""
        self._end(error or ConnectionAborted("the connection was dropped"))
        if self.transport is not None:
            cast(Any, self.transport).abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        try:
            while self.ended is None and self._take_one():
                pass
            if len(self._received) > 2 * _LONGEST:
                raise NatsError("it sends a line without an end")
        except Exception as e:  # at what is not as the protocol says it
            self.abort(e if isinstance(e, NatsError) else NatsError(f"it does not speak NATS: {e!r}"))

    def _take_one(self) -> bool:
        """Take one line, or the rest of a message; False: not all of it is there yet."""
        if self._message is not None:
            subject, headers, size = self._message
            if len(self._received) < size + 2:
                return False
            payload, self._received = self._received[:size], self._received[size + 2 :]
            self._message = None
            self._answered(subject.rpartition(".")[2], payload[:headers], payload[headers:])
            return True
        line, end, rest = self._received.partition(b"\r\n")
        if not end:
            if not self._greeted and not b"INFO {".startswith(line[:6]):
                raise NatsError(f"it does not speak NATS: it begins with {line[:20]!r}")
            return False
        self._received = rest
        self._line(line.decode(errors="replace"))
        return True

    def _line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word.upper():
            case "INFO":
                self._informed(json.loads(rest))
            case _ if not self._greeted:
                raise NatsError(f"it does not speak NATS: it begins with {line[:20]!r}")
            case "PING":
                self._write(b"PONG")
            case "PONG" if not self.is_let_in:
                self.is_let_in = True
                self.opened.callback(None)
            case "MSG" | "HMSG":
                subject, *_, size = rest.split()
                headers = int(rest.split()[-2]) if word.upper() == "HMSG" else 0
                if not 0 <= headers <= int(size) <= _LONGEST:
                    raise NatsError(f"it sends a message of {size} bytes")
                self._message = subject, headers, int(size)
            case "-ERR":
                self._refused(rest.strip().strip("'"))

    def _informed(self, info: Mapping[str, Any]) -> None:
        """The server says what it is, and may say so again when something changes."""
        if self._greeted:
            return
        self._greeted = True
        transport = cast(Any, self.transport)
        uses_tls = self._wants_tls or bool(info.get("tls_required"))
        if self._wants_tls and not (info.get("tls_required") or info.get("tls_available")):
            raise NatsError("it offers no TLS")
        if uses_tls:
            transport.startTLS(self._tls)
        hello: dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "tls_required": uses_tls,
            "name": "collectord",
            "lang": "python",
            "version": __version__,
            "protocol": 1,
            "echo": False,
            "headers": True,
            "no_responders": True,
            **self._login,
        }
        if self._credentials is not None:
            hello |= self._credentials.answer_to(str(info.get("nonce", "")))
        self._write(f"CONNECT {json.dumps(hello)}".encode(), f"SUB {self._inbox}.* 1".encode(), b"PING")

    def _refused(self, text: str) -> None:
        """Take an error of the server: about one request, or about all there is."""
        if text.startswith("Permissions Violation for Publish"):
            for number, (subject, answer) in list(self._requests.items()):
                if f'"{subject}"' in text:
                    del self._requests[number]
                    answer.errback(NatsError(text))
        else:
            self.abort(NatsError(text))

    def _answered(self, number: str, headers: bytes, payload: bytes) -> None:
        _, answer = self._requests.pop(number, ("", None))
        if answer is None:  # nobody waits for it any more
            return
        status = headers.partition(b"\r\n")[0].split()[1:2]
        if status == [_NO_RESPONDERS]:
            answer.errback(NoResponders("nobody listens to the subject"))
        else:
            answer.callback(payload)

    def _write(self, *lines: bytes) -> None:
        cast(Any, self.transport).write(b"".join(line + b"\r\n" for line in lines))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(cast(Exception, reason.value))

    def _end(self, error: Exception) -> None:
        if self.ended is not None:
            return
        self.ended = error
        requests, self._requests = self._requests, {}
        for _, answer in requests.values():
            answer.errback(error)
        if not self.opened.called:
            self.opened.errback(error)
