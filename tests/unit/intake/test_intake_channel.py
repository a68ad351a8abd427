from collections.abc import Callable

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableDescriptor, ISSLTransport
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from collectord.errors import ClientGone, MalformedReport, TooSlow
from collectord.intake.channel import StreamingChannel
from tests.support.cases import for_each
from tests.unit.intake.parts import LogRecorder
from tests.unit.intake.rig import NewRig, Rig, chunked, make_rig, post
from tests.unit.intake.wire import Client, PausablePort

MIB = 1024 * 1024


# ——— bodies ———


def test_a_body(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello"))
    assert client.response.status == 200
    assert client.response.body == b"POST /body HTTP/1.1 hello"
    assert rig.lengths == [5]
    assert not client.closed
    assert not client.wire.half_closed


def test_the_body_is_taken_as_it_comes(rig: Rig) -> None:
    client = rig.connect()
    sent = post(b"hello world")
    client.send(sent[:-5])
    assert rig.bodies[0].data == b"hello "
    assert rig.resource.requests == []
    client.send(sent[-5:])
    assert client.response.body == b"POST /body HTTP/1.1 hello world"


@given(st.integers(1, 200), st.booleans())
def test_any_split_of_two_requests(piece: int, chunks: bool) -> None:
    rig = make_rig()
    client = rig.connect()
    client.send((chunked(b"hello", b" ", b"world") if chunks else post(b"hello world")) + post(b"again"), piece=piece)
    bodies = [response.body for response in client.responses]
    assert bodies == [b"POST /body HTTP/1.1 hello world", b"POST /body HTTP/1.1 again"]
    rig.server.stop()


def test_chunks(rig: Rig) -> None:
    client = rig.connect()
    client.send(chunked(b"hello", b" world"))
    assert client.response.body == b"POST /body HTTP/1.1 hello world"
    assert rig.lengths == [None]
    client.send(b"POST /body HTTP/1.1\r\nTRANSFER-ENCODING: Chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n")
    assert client.responses[1].body == b"POST /body HTTP/1.1 hello"


def test_no_body(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\nHost: x\r\n\r\n")
    assert rig.lengths == [0]
    assert client.response.status == 200
    client.send(b"POST /body HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET /other HTTP/1.1\r\n\r\n")
    assert [response.status for response in client.responses] == [200, 200, 404]
    assert not client.closed


def test_keep_alive(rig: Rig) -> None:
    client = rig.connect()
    for n in range(3):
        client.send(post(b"%d" % n))
        assert len(client.responses) == n + 1
    assert [response.body[-1:] for response in client.responses] == [b"0", b"1", b"2"]


def test_connection_close(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"x", b"Connection: close"))
    assert client.response.headers["connection"] == "close"
    assert client.closed
    assert not client.wire.half_closed


def test_http_1_0(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"x", b"Connection: keep-alive", version=b"1.0"))
    assert client.response.body == b"POST /body HTTP/1.0 x"
    assert client.received.startswith(b"HTTP/1.0 200 OK\r\n")
    assert client.closed


def test_pipelining(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"1") + post(b"2") + b"GET /other HTTP/1.1\r\n\r\n" + post(b"3"))
    assert [(response.status, response.body[-1:]) for response in client.responses] == [
        (200, b"1"),
        (200, b"2"),
        (404, b"-"),
        (200, b"3"),
    ]


def test_pipelined_requests_wait_for_their_turn(rig: Rig) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"1") + post(b"2"))
    client.send(post(b"3"))
    assert len(rig.resource.requests) == 1
    for n in (1, 2, 3):
        rig.resource.answer_now()
        assert [response.body[-1:] for response in client.responses] == [b"1", b"2", b"3"][:n]
    assert len(rig.bodies) == 3


def test_a_broken_request_after_a_pipelined_one_is_answered_in_its_turn(rig: Rig) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"1") + b"nonsense\r\n\r\n")
    assert client.received == b""
    rig.resource.answer_now()
    assert [response.status for response in client.responses] == [200, 400]
    assert client.lingering


def test_the_answer_is_written_at_once(rig: Rig) -> None:
    writes: list[bytes] = []
    client = rig.connect()
    client.wire.write = writes.append  # type: ignore[method-assign, assignment]
    client.send(post(b"1"))
    assert len(writes) == 1
    assert writes[0].endswith(b"\r\n\r\nPOST /body HTTP/1.1 1")


class Socket(Connection):
    """A socket that takes C{room} bytes at once."""

    def __init__(self, room: int | Exception) -> None:
        self.room = room
        self.direct = b""
        self.queued = b""
        self.connected = True
        self.disconnecting = False

    def writeSomeData(self, data: bytes | bytearray) -> int | Exception:  # type: ignore[override]
        if isinstance(self.room, Exception):
            return self.room
        assert self.queued == b""
        self.direct += data[: self.room]
        return min(self.room, len(data))

    def write(self, data: bytes) -> None:
        self.queued += data

    def writeSequence(self, data: object) -> None:
        raise AssertionError

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 1)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.2", 80)

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def resumeProducing(self) -> None:
        pass


def over_socket(rig: Rig, socket: Socket) -> StreamingChannel:
    channel = rig.server.site.buildProtocol(None)
    assert isinstance(channel, StreamingChannel)
    channel.makeConnection(socket)
    return channel


@pytest.mark.parametrize("room", [0, 1, 20, 10_000])
def test_what_the_socket_does_not_take_follows_in_order(rig: Rig, room: int) -> None:
    socket = Socket(room)
    channel = over_socket(rig, socket)
    channel.dataReceived(post(b"1") + post(b"2"))
    sent = socket.direct + socket.queued
    assert [body[-1:] for body in sent.split(b"HTTP/1.1 200 OK\r\n")[1:]] == [b"1", b"2"]
    assert (socket.queued == b"") == (room == 10_000)
    channel.connectionLost(Failure(ConnectionError()))


def test_a_send_does_not_overtake_100_continue(rig: Rig) -> None:
    socket = Socket(10_000)
    channel = over_socket(rig, socket)
    channel.dataReceived(post(b"", b"Expect: 100-continue").replace(b"Length: 0", b"Length: 1"))
    channel.dataReceived(b"1")
    assert socket.direct == b""
    assert socket.queued.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    channel.connectionLost(Failure(ConnectionError()))


def test_a_socket_that_is_lost_takes_nothing(rig: Rig) -> None:
    socket = Socket(ConnectionError())
    channel = over_socket(rig, socket)
    channel.dataReceived(post(b"1"))
    assert (socket.direct, socket.queued) == (b"", b"")
    channel.connectionLost(Failure(ConnectionError()))


# ——— Expect: 100-continue ———


@pytest.mark.parametrize("expect", [b"Expect: 100-continue", b"EXPECT: 100-Continue"])
def test_a_client_that_asks_is_told_to_go_on(rig: Rig, expect: bytes) -> None:
    client = rig.connect()
    sent = post(b"hello", expect)
    client.send(sent[:-5])
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(sent[-5:])
    assert client.received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    client.send(post(b"again"))
    assert client.received.count(b"100 Continue") == 1


def test_chunked_with_expect(rig: Rig) -> None:
    client = rig.connect()
    client.send(chunked(headers=b"Expect: 100-continue\r\n")[:-5])
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_http_1_0_knows_no_100(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello", b"Expect: 100-continue", version=b"1.0"))
    assert b"100 Continue" not in client.received
    assert client.response.status == 200


@pytest.mark.parametrize("path", [b"/body", b"/other"])
def test_a_body_that_is_not_wanted_is_not_asked_for(rig: Rig, path: bytes) -> None:
    client = rig.connect()
    rig.limit = 4
    client.send(post(b"hello", b"Expect: 100-continue", path=path)[:-5])
    assert b"100 Continue" not in client.received
    assert client.response.status == (400 if path == b"/body" else 404)
    assert client.lingering


# ——— early answers and the lingering close ———


def test_an_answer_before_the_body(rig: Rig) -> None:
    rig.limit = 10
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\nContent-Length: 11\r\n\r\n")
    assert client.response.status == 400
    assert client.response.body == b"POST /body HTTP/1.1 too_large"
    assert client.response.headers["connection"] == "close"
    assert client.lingering
    assert rig.bodies[0].data == b""
    client.send(b"hello world")
    assert rig.bodies[0].data == b""
    assert len(client.responses) == 1


@pytest.mark.parametrize("chunks", [True, False])
def test_an_answer_in_the_middle_of_the_body(rig: Rig, chunks: bool) -> None:
    client = rig.connect()
    sent = chunked(b"x" * 100, b"y" * 100) if chunks else post(b"x" * 100 + b"y" * 100)
    rig.bodies.clear()
    rig.limit = 200
    client.send(sent[: sent.index(b"x") + 50])
    rig.bodies[0].limit = 60
    client.send(b"x" * 11)
    assert client.response.body == b"POST /body HTTP/1.1 too_large"
    assert client.response.headers["connection"] == "close"
    assert client.lingering
    client.send(sent[sent.index(b"x") + 61 :] + post(b"next"))
    assert len(client.responses) == 1
    assert len(rig.bodies) == len(rig.resource.requests) == 1
    assert rig.bodies[0].data == b"x" * 61
    assert client.lingering


def test_an_answer_at_the_last_byte(rig: Rig) -> None:
    rig.limit = 100
    client = rig.connect()
    client.send(post(b"x" * 100)[:-1])
    rig.bodies[0].limit = 99
    client.send(b"x" + post(b"next"))
    assert client.response.body == b"POST /body HTTP/1.1 too_large"
    assert client.lingering
    assert len(rig.bodies) == 1


def test_later_bytes_are_never_a_request(rig: Rig) -> None:
    rig.limit = 10
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + post(b"1") * 3)
    client.send(post(b"2") * 3)
    client.send(b"\r\n\r\n" + post(b"3"), piece=1)
    assert len(rig.resource.requests) == 1
    assert len(client.responses) == 1


def test_the_linger_ends_with_its_bytes(new_rig: NewRig) -> None:
    rig = new_rig(linger_bytes=1000)
    client = rig.connect()
    client.send(b"POST /other HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
    client.send(b"x" * 1000)
    assert client.lingering
    client.send(b"x")
    assert client.aborted


def test_the_linger_ends_with_its_time(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"POST /other HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(9):
        rig.server.wait(1)
        client.send(b"x")
    assert client.lingering
    rig.server.wait(2.5)
    assert client.closed
    assert not client.aborted
    rig.server.wait(1)
    assert client.aborted


def test_a_client_that_goes_ends_the_linger(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"POST /other HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
    client.hang_up()
    rig.server.wait(30)
    assert not client.aborted


def test_a_body_for_a_route_without_use_for_it_is_answered_at_once(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"PUT /other HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert client.response.status == 404
    assert client.response.headers["connection"] == "close"
    assert client.lingering


@pytest.mark.parametrize("rest", [b"xyGET /other HTTP/1.1\r\n\r\n", b"x", b"2\r\n"])
@pytest.mark.parametrize("head", [b"Content-Length: 2", b"Transfer-Encoding: chunked"])
def test_what_follows_an_unwanted_body_is_no_request_even_if_the_answer_takes_its_time(
    rig: Rig, head: bytes, rest: bytes
) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(b"GET /other HTTP/1.1\r\n" + head + b"\r\n\r\n")
    client.send(rest)
    client.send(rest)
    client.send(rest)
    assert client.received == b""
    rig.resource.answer_now()
    assert client.response.status == 404
    assert client.lingering
    client.send(rest)
    assert len(rig.resource.requests) == 1


def test_a_late_answer_to_an_unwanted_body_is_waited_for(rig: Rig) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(b"GET /other HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
    rig.server.wait(40)
    assert not client.closed
    rig.resource.answer_now()
    assert client.response.status == 404


# ——— nonsense ———

BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 12\r\nConnection: close\r\n\r\nBad request\n"
)


@for_each(
    "sent",
    [
        b"nonsense\r\n",
        b"\x16\x03\x01\x02\r\n",
        b"GET /\r\n",
        b"GET / HTTP/2.0\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"G@T / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"POST /body HTTP/1.1\r\nContent-Length: x\r\n\r\nhello",
        b"POST /body HTTP/1.1\r\nContent-Length: -1\r\n\r\nhello",
        b"POST /body HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /body HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"POST /body HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"POST /body HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nhello",
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 501 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 16380 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 20000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n" * 400 + b"\r\n",
    ],
)
@for_each("piece", [1000, 65536, 1_000_000])
def test_nonsense_is_answered(new_rig: NewRig, sent: bytes, piece: int) -> None:
    rig = new_rig()
    client = rig.connect()
    client.send(sent, piece=piece)
    assert client.received == BAD_REQUEST
    assert client.lingering
    assert rig.resource.requests == []
    client.send(post(b"next"))
    client.send(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert client.received == BAD_REQUEST
    assert rig.resource.requests == rig.bodies == []


@for_each(
    "chunks",
    [
        b"x\r\n",
        b"-1\r\n",
        b"\r\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5;\0\r\nhello\r\n",
        b"1" * 2000,
        b"0\r\n" + b"Trailer: x\r\n" * 10_000,
    ],
)
@for_each("piece", [1, 100_000])
def test_malformed_chunks(new_rig: NewRig, chunks: bytes, piece: int) -> None:
    rig = new_rig()
    client = rig.connect()
    client.send(chunked(b"good")[:-5])
    client.send(chunks, piece=max(piece, len(chunks) // 2000))
    assert client.response.body == b"POST /body HTTP/1.1 invalid_payload_structure"
    assert client.response.headers["connection"] == "close"
    assert client.lingering
    (body,) = rig.bodies
    assert body.data.startswith(b"good")
    assert [type(reason) for reason in body.refused] == [MalformedReport]
    client.send(post(b"next"))
    assert len(client.responses) == len(rig.bodies) == 1


def test_chunks_after_a_refusal(rig: Rig) -> None:
    rig.limit = 3
    client = rig.connect()
    client.send(chunked(b"good", b"more", b"yet more") + post(b"next"))
    assert client.response.body == b"POST /body HTTP/1.1 too_large"
    assert rig.bodies[0].data == b"goodmoreyet more", "all of one read at once"
    assert len(rig.bodies) == 1
    assert client.lingering


def test_pipelined_requests_take_turns_with_other_clients(new_rig: NewRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = new_rig()
    impatient, other = rig.connect(), rig.connect()
    waiting: list[Callable[[], None]] = []
    monkeypatch.setattr(rig.server.site.turns, "is_over", lambda: True)
    monkeypatch.setattr(rig.server.site.turns, "wait", waiting.append)
    impatient.send(post(b"one") + post(b"two") + post(b"three") + post(b"four")[:-1])
    assert [response.body[-3:] for response in impatient.responses] == [b"one"]
    assert impatient.paused
    other.send(post(b"other"))
    assert other.response.status == 200
    waiting.pop()()
    assert [body.data for body in rig.bodies] == [b"one", b"other", b"two"]
    waiting.pop()()
    waiting.pop()()
    assert waiting == []
    assert not impatient.paused
    impatient.send(b"r")
    assert [body.data for body in rig.bodies] == [b"one", b"other", b"two", b"three", b"four"]
    assert len(impatient.responses) == 4
    monkeypatch.undo()
    impatient.send(post(b"five")[:-1])
    rig.server.wait(32)
    assert impatient.responses[-1].body == b"POST /body HTTP/1.1 too_slow", "who waited for a turn is watched again"


def test_so_do_chunked_ones(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    client = rig.connect()
    waiting: list[Callable[[], None]] = []
    monkeypatch.setattr(rig.server.site.turns, "is_over", lambda: True)
    monkeypatch.setattr(rig.server.site.turns, "wait", waiting.append)
    client.send(chunked(b"one") + chunked(b"two") + chunked(b"three"))
    assert [body.data for body in rig.bodies] == [b"one"]
    assert client.paused
    waiting.pop()()
    assert [body.data for body in rig.bodies] == [b"one", b"two"]
    assert client.paused
    waiting.pop()()
    assert [body.data for body in rig.bodies] == [b"one", b"two", b"three"]
    assert waiting == []
    assert not client.paused


def test_a_client_that_leaves_gets_no_turn(new_rig: NewRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = new_rig()
    client = rig.connect()
    monkeypatch.setattr(rig.server.site.turns, "is_over", lambda: True)
    client.send(post(b"one") + post(b"two"))
    client.hang_up()
    rig.server.clock.advance(0)
    assert [body.data for body in rig.bodies] == [b"one"]


def test_headers_of_too_many_lines(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"GET / HTTP/1.1\r\nA: b\r\n" + b" \r\n" * 990 + b"\r\n")
    assert client.responses[0].status == 404
    client = rig.connect()
    client.send(b"GET / HTTP/1.1\r\nA: b\r\n" + b" \r\n" * 1000 + b"\r\n")
    assert client.response.status == 400
    assert client.lingering


def test_who_has_used_up_its_share_goes_on_at_its_next_turn(rig: Rig) -> None:
    client, calls = rig.connect(), list[str]()
    rig.server.site.turns.begin(rig.server.clock.seconds())
    assert not client.channel.incoming.rest(lambda: calls.append("too early"))
    rig.server.clock.advance(1)
    assert client.channel.incoming.rest(lambda: calls.append("next turn"))
    assert calls == []
    rig.server.clock.advance(0)
    assert calls == ["next turn"]


def test_the_line_that_is_too_many_may_be_the_last_one(rig: Rig) -> None:
    """The request is refused, and not served besides."""
    for folded, status in ((997, 404), (998, 400)):
        client = rig.connect()
        client.send(b"GET / HTTP/1.1\r\nA: b\r\n" + b" \r\n" * folded + b"\r\n")
        assert [response.status for response in client.responses] == [status]


def test_each_request_may_have_as_many_lines(rig: Rig) -> None:
    client = rig.connect()
    for number in range(1, 4):
        client.send(b"GET / HTTP/1.1\r\nA: b\r\n" + b" \r\n" * 600 + b"\r\n")
        assert [response.status for response in client.responses] == [404] * number


def test_malformed_chunks_after_a_refusal(rig: Rig) -> None:
    rig.limit = 3
    client = rig.connect()
    client.send(chunked(b"good")[:-5] + b"nonsense\r\n")
    client.send(b"nonsense\r\n")
    assert client.response.body == b"POST /body HTTP/1.1 too_large"
    assert rig.bodies[0].refused == []
    assert client.lingering


# ——— time ———


def test_an_idle_body_is_late(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello")[:-1])
    rig.server.wait(30)
    assert client.received == b""
    rig.server.wait(2)
    assert client.response.body == b"POST /body HTTP/1.1 too_slow"
    assert client.response.headers["connection"] == "close"
    assert [type(reason) for reason in rig.bodies[0].refused] == [TooSlow]
    assert client.lingering
    client.send(b"o")
    assert len(client.responses) == 1


def test_a_long_upload_is_not_late(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\nContent-Length: 40\r\n\r\n")
    for _ in range(40):
        rig.server.wait(25)
        assert not client.closed
        assert client.received == b""
        client.send(b"x")
    assert client.response.status == 200


def test_a_connection_without_a_request_is_closed_silently(rig: Rig) -> None:
    client = rig.connect()
    rig.server.wait(30)
    assert not client.closed
    rig.server.wait(1.5)
    assert client.closed
    assert client.received == b""
    assert not client.aborted
    rig.server.wait(1)
    assert client.aborted


def test_an_idle_connection_after_a_request_is_closed_silently(rig: Rig) -> None:
    client = rig.connect()
    rig.server.wait(29)
    client.send(post(b"x"))
    rig.server.wait(130)
    assert not client.closed
    rig.server.wait(2)
    assert client.closed
    assert len(client.responses) == 1


@pytest.mark.parametrize("requests", [1, 5])
def test_a_proxy_that_keeps_connections_for_two_minutes_never_meets_a_closed_one(rig: Rig, requests: int) -> None:
    client = rig.connect()
    for n in range(requests):
        client.send(post(b"%d" % n))
        rig.server.wait(119)
        assert not client.closed
    client.send(post(b"last"))
    assert [response.status for response in client.responses] == [200] * (requests + 1)


def test_a_request_that_comes_when_its_connection_is_about_to_be_closed_is_answered(rig: Rig) -> None:
    """It was in the kernel already when the sweep found the connection idle for too long."""
    client = rig.connect()
    client.send(post(b"x"))
    rig.server.wait(129.75)
    clock = rig.server.clock
    clock.callLater(1.5, client.send, post(b"y"))
    clock.advance(1.5)  # the sweep comes first
    rig.server.wait(1)
    assert [response.status for response in client.responses] == [200, 200]
    assert not client.closed


def test_the_headers_of_a_later_request_must_come_in_time(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"x"))
    rig.server.wait(100)
    client.send(b"POST /body HTTP/1.1\r\n")
    rig.server.wait(30)
    assert not client.closed
    rig.server.wait(2)
    assert client.closed


def test_so_must_its_body(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"x"))
    rig.server.wait(100)
    client.send(post(b"hello")[:-1])
    rig.server.wait(32)
    assert client.responses[1].body == b"POST /body HTTP/1.1 too_slow"


@pytest.mark.parametrize(("keep_alive", "closed_after"), [(130.0, 30), (5.0, 5)])
def test_idle_connections_make_room_when_others_wait(new_rig: NewRig, keep_alive: float, closed_after: float) -> None:
    rig = new_rig(keep_alive=keep_alive, max_connections=2)
    idle = rig.connect()
    idle.send(post(b"x"))
    rig.connect()
    assert rig.server.port.moves[-1] == "shut"
    rig.server.wait(closed_after)
    assert not idle.closed
    rig.server.wait(2)
    assert idle.closed
    idle.hang_up()
    assert rig.server.port.moves[-1] == "open"


def test_who_has_been_idle_for_long_is_closed_at_once_when_others_wait(new_rig: NewRig) -> None:
    rig = new_rig(max_connections=2)
    idle = rig.connect()
    idle.send(post(b"x"))
    rig.server.wait(60)
    fresh = rig.connect()
    fresh.send(post(b"y"))
    rig.server.wait(2)
    assert (idle.closed, fresh.closed) == (True, False)


def test_other_limits_count_for_connections_that_are_idle(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"x"))
    rig.server.wait(60)
    rig.server.site.limits = evolve(rig.server.site.limits, keep_alive=50.0)
    rig.server.wait(2)
    assert client.closed


def test_headers_must_come_in_time(rig: Rig) -> None:
    client = rig.connect()
    for byte in b"GET / HTTP/1.1\r\nX: xxxxxxxxxxxxxxxxxxxxxxxxx":
        if client.closed:
            break
        client.send(bytes([byte]))
        rig.server.wait(1)
    assert client.closed
    assert client.received == b""
    assert 1029 <= rig.server.clock.seconds() <= 1033


def test_who_waits_for_an_answer_is_not_late(rig: Rig) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"x"))
    rig.server.wait(600, step=1)
    assert not client.closed
    rig.resource.answer_now()
    assert client.response.status == 200
    assert not client.closed


@pytest.mark.parametrize(("rate", "late"), [(120, False), (80, True)])
def test_the_minimum_rate(new_rig: NewRig, rate: int, late: bool) -> None:
    rig = new_rig(min_rate=100)
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(100):
        rig.server.wait(1)
        if rig.resource.requests:
            break
        client.send(b"x" * rate)
    assert bool(rig.resource.requests) == late
    if late:
        assert client.response.body == b"POST /body HTTP/1.1 too_slow"
        assert 1030 <= rig.server.clock.seconds() <= 1033


def test_the_rate_is_that_of_the_last_window(new_rig: NewRig) -> None:
    rig = new_rig(min_rate=100)
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
    client.send(b"x" * 100_000)
    for _ in range(100):
        rig.server.wait(1)
        if rig.resource.requests:
            break
        client.send(b"x")
    assert client.response.body == b"POST /body HTTP/1.1 too_slow"
    assert 1060 <= rig.server.clock.seconds() <= 1064


def slow_upload(rig: Rig) -> Client:
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
    return client


def drip(rig: Rig, client: Client, seconds: int) -> bool:
    """A byte a second for so long; whether it is still wanted."""
    for _ in range(seconds):
        if client.received:
            break
        client.send(b"x")
        rig.server.wait(1)
    return not client.received


def test_the_first_minute_of_a_body_is_free(new_rig: NewRig) -> None:
    rig = new_rig(min_rate=50, free=60.0)
    slow, hasty = slow_upload(rig), slow_upload(rig)
    for _ in range(2):
        hasty.send(b"x")
        assert drip(rig, slow, 29)
    for _ in range(29):
        assert drip(rig, slow, 1)
        hasty.send(b"x" * 60)
    drip(rig, slow, 6)
    assert slow.response.body == b"POST /body HTTP/1.1 too_slow"
    assert 1089 <= rig.server.clock.seconds() <= 1095
    assert hasty.received == b""


def test_no_minute_is_free_while_others_wait(new_rig: NewRig) -> None:
    rig = new_rig(min_rate=50, free=60.0, max_connections=1)
    slow = slow_upload(rig)
    assert drip(rig, slow, 29)
    assert not drip(rig, slow, 5)


def test_slow_bodies_within_the_rate_live_on(new_rig: NewRig) -> None:
    rig = new_rig(min_rate=50, free=60.0)
    client = slow_upload(rig)
    for _ in range(60):
        client.send(b"x" * 600)
        rig.server.wait(10)
    assert client.received == b""


# ——— a process that stands still ———


def test_what_waits_in_the_kernel_after_a_stall_was_in_time(rig: Rig) -> None:
    clock = rig.server.clock
    idle, uploading = rig.connect(), rig.connect()
    idle.send(post(b"x"))
    rig.server.wait(29)
    uploading.send(post(b"hello")[:-1])
    clock.callLater(40, idle.send, post(b"y"))
    clock.callLater(40, uploading.send, b"o")
    clock.advance(40)  # the sweep comes first
    assert [response.status for response in idle.responses] == [200, 200]
    assert uploading.response.status == 200


def test_a_short_stall_at_the_last_moment(rig: Rig) -> None:
    client = rig.connect()
    rig.server.wait(29.5)
    rig.server.clock.callLater(1.5, client.send, post(b"y"))
    rig.server.clock.advance(1.5)
    assert client.response.status == 200


def test_time_in_which_nobody_read_does_not_count(rig: Rig) -> None:
    silent, uploading = rig.connect(), rig.connect()
    uploading.send(post(b"hello")[:-1])
    rig.server.wait(20)
    rig.server.clock.advance(100)
    rig.server.wait(8)
    assert not silent.closed
    assert uploading.received == b""
    rig.server.wait(5)
    assert silent.closed
    assert uploading.response.body == b"POST /body HTTP/1.1 too_slow"


def test_nor_does_it_shorten_the_free_minute_of_a_body(new_rig: NewRig) -> None:
    rig = new_rig(min_rate=50, free=60.0)
    slow = slow_upload(rig)
    assert drip(rig, slow, 5)
    rig.server.clock.advance(100)
    assert drip(rig, slow, 75)
    assert not drip(rig, slow, 15)


def test_headers_begun_in_time_may_end(rig: Rig) -> None:
    client = rig.connect()
    rig.server.wait(29)
    client.send(b"GET / HTTP/1.1\r\n")
    rig.server.wait(20)
    client.send(b"\r\n")
    assert client.response.status == 404


def test_one_that_can_not_be_closed_stops_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch, log: LogRecorder) -> None:
    clients = [rig.connect() for _ in range(3)]

    def broken() -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(clients[1].channel, "end", broken)
    rig.server.wait(31)
    assert [client.closed for client in clients] == [True, False, True]
    assert len(log.failures) == 1
    log.events.clear()


def test_idle_counts_across_windows_of_the_rate(new_rig: NewRig) -> None:
    rig = new_rig(min_rate=1, idle=10)
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
    rig.server.wait(5)
    client.send(b"x" * 1000)
    rig.server.wait(12)
    assert client.response.body == b"POST /body HTTP/1.1 too_slow"


def test_one_broken_check_does_not_end_the_sweep(rig: Rig, monkeypatch: pytest.MonkeyPatch, log: LogRecorder) -> None:
    def broken(now: float) -> bool:
        raise RuntimeError("a defect")

    clients = [rig.connect() for _ in range(3)]
    monkeypatch.setattr(clients[1].channel, "is_overdue", broken)
    rig.server.wait(32)
    assert [client.closed for client in clients] == [True, False, True]
    assert len(log.failures) == 32
    log.events.clear()


def test_a_site_sweeps_only_while_it_is_open(rig: Rig) -> None:
    assert len(rig.server.clock.getDelayedCalls()) == 1
    rig.server.site.startFactory()
    assert len(rig.server.clock.getDelayedCalls()) == 1
    rig.server.site.stopFactory()
    rig.server.site.stopFactory()
    assert rig.server.clock.getDelayedCalls() == []


# ——— back-pressure ———


def test_paused_and_resumed(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello")[:-5])
    client.channel.incoming.pause()
    assert client.paused
    client.channel.incoming.pause()
    client.channel.incoming.resume()
    assert client.paused
    client.channel.incoming.resume()
    assert not client.paused


def test_a_paused_client_is_not_late(new_rig: NewRig) -> None:
    rig = new_rig(min_rate=100)
    client = rig.connect()
    client.send(post(b"hello" * 1000)[:-5000])
    rig.server.wait(20)
    client.channel.incoming.pause()
    rig.server.wait(300, step=1)
    assert client.received == b""
    client.channel.incoming.resume()
    rig.server.wait(29)
    assert client.received == b""
    client.send(b"hello" * 1000)
    assert client.response.status == 200


def test_a_client_that_was_paused_can_be_late_again(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello")[:-5])
    client.channel.incoming.pause()
    rig.server.wait(100)
    client.channel.incoming.resume()
    rig.server.wait(32)
    assert client.response.body == b"POST /body HTTP/1.1 too_slow"


def test_a_client_has_its_whole_time_again_when_it_is_resumed(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello")[:-5])
    client.channel.incoming.pause()
    rig.server.clock.rightNow += 100  # no sweep looks at it meanwhile
    client.channel.incoming.resume()
    assert not client.channel.is_overdue(rig.server.clock.seconds())


def test_nothing_is_read_from_a_client_that_does_not_read_its_answers(rig: Rig) -> None:
    client = rig.connect()
    rig.resource.later = True
    client.send(post(b"one"))
    client.channel.pauseProducing()
    assert client.paused
    rig.resource.answer_now()
    assert client.paused, "nor when the request is answered"
    client.channel.incoming.pause()
    client.channel.incoming.resume()
    assert client.paused, "nor when its turn comes"
    client.channel.resumeProducing()
    assert not client.paused
    client.send(post(b"two"))
    rig.resource.answer_now()
    assert [response.status for response in client.responses] == [200, 200]


def test_a_client_that_is_paused_stays_so_when_it_reads_its_answers(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello")[:-5])
    client.channel.incoming.pause()
    client.channel.pauseProducing()
    client.channel.resumeProducing()
    assert client.paused
    client.channel.incoming.resume()
    assert not client.paused


@pytest.mark.parametrize("sent", [b"", post(b"hello")[:-5]], ids=["between requests", "in a body"])
def test_a_client_that_does_not_read_its_answers_is_too_slow(rig: Rig, sent: bytes) -> None:
    client = rig.connect()
    client.send(post(b"one") + sent)
    client.channel.pauseProducing()
    rig.server.clock.rightNow += 31
    assert client.channel.is_overdue(rig.server.clock.seconds())
    client.channel.resumeProducing()
    assert not client.channel.is_overdue(rig.server.clock.seconds()), "it has read them, and has its whole time again"


def test_a_client_that_reads_its_last_answer_does_not_linger_longer(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"nonsense\r\n")
    assert client.lingering
    rig.server.clock.rightNow += 11
    client.channel.resumeProducing()
    assert client.channel.is_overdue(rig.server.clock.seconds())


def test_a_refusal_ends_the_pause(rig: Rig) -> None:
    client = rig.connect()
    client.send(chunked(b"hello", b"hello")[:-10])
    client.channel.incoming.pause()
    rig.bodies[0].limit = 5
    client.channel.requests[-1].handleContentChunk(b"x")
    assert client.response.status == 400
    assert client.lingering
    client.channel.incoming.pause()
    assert client.lingering
    client.channel.incoming.resume()
    client.channel.incoming.resume()
    assert client.lingering
    client.channel.incoming.pause()
    assert client.lingering


def test_resuming_does_not_prolong_the_linger(rig: Rig) -> None:
    rig.limit = 3
    client = rig.connect()
    client.channel.incoming.pause()
    client.send(post(b"good"))
    rig.server.wait(9)
    client.channel.incoming.resume()
    rig.server.wait(2.5)
    assert client.closed


def test_resuming_after_the_client_went(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello")[:-5])
    client.channel.incoming.pause()
    client.hang_up()
    client.channel.incoming.resume()


# ——— clients that go, and too many of them ———


def test_a_client_that_goes_in_the_body(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello")[:-1])
    client.hang_up()
    assert [type(reason) for reason in rig.bodies[0].refused] == [ClientGone]
    assert client.received == b""
    assert rig.resource.requests == []


def test_a_client_that_goes_while_it_waits(rig: Rig) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"hello"))
    gone: list[Failure] = []
    rig.resource.requests[0].notifyFinish().addErrback(gone.append)
    client.hang_up()
    assert len(gone) == 1
    assert rig.bodies[0].refused == []


@pytest.mark.parametrize("sent", [b"", b"POST /bo", b"POST /body HTTP/1.1\r\nContent-Le", b"nonsense\r\n"])
def test_a_client_that_goes_before_the_body(rig: Rig, sent: bytes) -> None:
    client = rig.connect()
    client.send(sent)
    client.hang_up()
    assert rig.bodies == rig.resource.requests == []


def test_too_many_connections_shut_the_gates(new_rig: NewRig) -> None:
    rig = new_rig(max_connections=3)
    other = PausablePort()
    rig.server.site.guard(other)
    port = rig.server.port
    port.moves.clear()
    clients = [rig.connect() for _ in range(2)]
    assert port.moves == []
    clients.append(rig.connect())
    assert port.moves == other.moves == ["shut"]
    clients.append(rig.connect())  # accepted in the same go
    assert port.moves == ["shut"]
    clients[0].hang_up()
    assert port.moves == other.moves == ["shut", "open"]
    clients.append(rig.connect())
    assert port.moves == ["shut", "open", "shut"]
    for client in clients[1:]:
        client.hang_up()
    assert port.moves == ["shut", "open", "shut", "open"]


def test_the_gates_are_shut_until_the_site_is_opened(rig: Rig) -> None:
    assert rig.server.port.moves == ["shut", "open"]
    late = PausablePort()
    rig.server.site.guard(late)
    assert late.moves == []


# ——— the end ———


def test_the_end_waits_for_requests_that_have_begun(rig: Rig) -> None:
    busy, idle = rig.connect(), rig.connect()
    busy.send(post(b"hello")[:-5])
    drained = Deferred.fromCoroutine(rig.server.site.drain(30))
    rig.server.wait(1, 0.1)
    assert (idle.closed, busy.closed, drained.called) == (True, False, False)
    busy.send(b"hello")
    assert busy.response.headers["connection"] == "close"
    for client in (idle, busy):
        client.hang_up()
    assert drained.called
    assert rig.server.clock.getDelayedCalls() == []


def test_the_end_does_not_wait_for_ever(rig: Rig) -> None:
    busy = rig.connect()
    busy.send(post(b"hello")[:-5])
    drained = Deferred.fromCoroutine(rig.server.site.drain(3))
    rig.server.wait(3)
    assert (busy.aborted, drained.called) == (True, False)
    busy.hang_up()
    assert drained.called


def test_the_end_with_nobody_there(rig: Rig) -> None:
    assert Deferred.fromCoroutine(rig.server.site.drain(3)).called
    assert rig.server.clock.getDelayedCalls() == []


# ——— half of a connection ———


def test_a_client_that_has_nothing_more_to_say_is_answered(rig: Rig) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"hello"))
    client.channel.readConnectionLost()
    client.channel.writeConnectionLost()
    rig.server.wait(600, step=1)
    assert not client.closed
    rig.resource.answer_now()
    assert client.response.body == b"POST /body HTTP/1.1 hello"
    assert client.closed


def test_pipelined_requests_of_a_client_that_has_nothing_more_to_say_are_all_answered(rig: Rig) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"1") + post(b"2"))
    client.channel.readConnectionLost()
    rig.resource.answer_now()
    assert not client.closed
    rig.resource.answer_now()
    assert [response.body[-1:] for response in client.responses] == [b"1", b"2"]
    assert client.closed


@pytest.mark.parametrize("chunks", [True, False], ids=["chunked", "identity"])
def test_so_they_are_where_all_but_the_first_are_answered_at_once(rig: Rig, chunks: bool) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"1") + b"".join(chunked(b"%d" % n) if chunks else post(b"%d" % n) for n in (2, 3, 4)))
    client.channel.readConnectionLost()
    rig.resource.later = False
    rig.resource.answer_now()
    assert [response.body[-1:] for response in client.responses] == [b"1", b"2", b"3", b"4"]
    assert client.closed


def test_so_they_are_where_they_wait_for_their_turns(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"1") + post(b"2") + post(b"3"))
    client.channel.readConnectionLost()
    rig.resource.later = False
    monkeypatch.setattr(rig.server.site.turns, "is_over", lambda: True)
    rig.resource.answer_now()
    assert not client.closed
    rig.server.clock.advance(0)
    rig.server.clock.advance(0)
    assert [response.body[-1:] for response in client.responses] == [b"1", b"2", b"3"]
    assert client.closed


@pytest.mark.parametrize("sent", [b"", b"POST /body HTTP/1.1\r\nContent-Le"])
def test_a_client_that_says_nothing_is_let_go(rig: Rig, sent: bytes) -> None:
    client = rig.connect()
    client.send(sent)
    client.channel.readConnectionLost()
    assert client.closed
    assert client.received == b""


def test_a_client_that_sends_no_more_ends_the_linger(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"POST /other HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
    assert client.lingering
    client.channel.readConnectionLost()
    assert client.closed


@pytest.mark.parametrize("tls", [True, False])
def test_an_early_answer_over_tls_leaves_the_way_out_open(rig: Rig, tls: bool) -> None:
    """Below TLS its end would cut the stream off."""
    client = rig.connect()
    if tls:
        directlyProvides(client.wire, ISSLTransport, IHalfCloseableDescriptor)
    client.send(b"POST /other HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
    assert client.wire.half_closed == (not tls)
    assert not client.closed
    rig.server.wait(12)
    assert client.closed


# ——— from when it counts ———


def test_the_linger_counts_from_the_answer(new_rig: NewRig) -> None:
    rig = new_rig(linger_bytes=1000)
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 900)
    for _ in range(4):
        rig.server.wait(5)
        client.send(b"x")
    rig.bodies[0].limit = 904
    client.send(b"x")
    assert client.lingering
    client.send(b"x" * 900)
    rig.server.wait(9)
    assert client.lingering
    rig.server.wait(2.5)
    assert client.closed


def test_so_it_does_from_the_answer_to_headers_that_are_broken(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"GET / HTTP/1.1\r\n")
    rig.server.wait(20)
    client.send(b"no header\r\n\r\n")
    assert client.response.status == 400
    rig.server.wait(9)
    assert client.lingering
    rig.server.wait(2.5)
    assert client.closed


def test_the_rate_counts_from_the_end_of_the_headers(new_rig: NewRig) -> None:
    rig = new_rig(min_rate=100)
    client = rig.connect()
    client.send(b"POST /body HTTP/1.1\r\n")
    rig.server.wait(29)
    client.send(b"Content-Length: 100000\r\n\r\n")
    for _ in range(29):
        rig.server.wait(1)
        assert client.received == b""
    client.send(b"x" * 3100)
    rig.server.wait(3)
    assert client.received == b""


def test_keep_alive_counts_from_the_answer(rig: Rig) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"x"))
    rig.server.wait(100)
    rig.resource.answer_now()
    rig.server.wait(129)
    assert not client.closed
    rig.server.wait(2)
    assert client.closed


def test_the_answer_during_the_end_is_the_last(rig: Rig) -> None:
    rig.resource.later = True
    client = rig.connect()
    client.send(post(b"hello"))
    Deferred.fromCoroutine(rig.server.site.drain(30))
    rig.resource.answer_now()
    assert client.response.headers["connection"] == "close"
    assert client.closed


def test_reading_goes_on_after_an_early_answer_that_the_socket_did_not_take(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(b"hello")[:-5])
    client.channel.incoming.pause()
    client.channel.pauseProducing()  # as the transport does, whose buffer is full
    rig.bodies[0].limit = 0
    client.channel.requests[-1].handleContentChunk(b"x")
    assert client.response.status == 400
    assert client.lingering


def test_who_asks_is_told_where_it_listens(rig: Rig) -> None:
    client = rig.connect()
    client.wire.hostAddr = IPv4Address("TCP", "127.0.0.1", 8000)
    assert client.channel.getHost() == IPv4Address("TCP", "127.0.0.1", 8000)
    client.wire.hostAddr = IPv4Address("TCP", "127.0.0.1", 1)
    assert client.channel.getHost() == IPv4Address("TCP", "127.0.0.1", 8000)
