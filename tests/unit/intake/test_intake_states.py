"""
Every event in every state of a connection: the table of what is allowed is gone through on the wire.
"""

from collections.abc import Callable

import pytest

from collectord.errors import ClientGone, MalformedReport, TooSlow
from collectord.intake.states import PARSING, TRANSITIONS, Event, State
from tests.support.cases import for_each
from tests.unit.intake.rig import NewRig, Rig, post
from tests.unit.intake.wire import Client

LINGER_BYTES = 1000
BIG = b"POST /body HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"
UNWANTED = b"POST /other HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"
BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 12\r\nConnection: close\r\n\r\nBad request\n"
)

EXPECTED = """
                  WAITING    RECEIVING  ANSWERING  REFUSING   LINGERING  CLOSING    TIMED_OUT  ABORTED    LOST
HEADERS_COMPLETE  RECEIVING  -          -          -          -          -          -          -          -
BODY_COMPLETE     -          ANSWERING  -          -          -          -          -          -          -
BODY_UNWANTED     -          REFUSING   -          -          -          -          -          -          -
MALFORMED         LINGERING  REFUSING   -          -          -          -          -          -          -
ANSWERED          -          -          WAITING    LINGERING  -          -          -          -          -
CLOSE             CLOSING    CLOSING    CLOSING    LINGERING  -          -          -          -          -
HALF_CLOSED       CLOSING    CLOSING    -          -          CLOSING    -          -          -          -
OVERDUE           TIMED_OUT  REFUSING   -          -          TIMED_OUT  ABORTED    ABORTED    -          -
FLOODED           -          -          -          -          ABORTED    -          -          -          -
CUT_OFF           ABORTED    ABORTED    ABORTED    ABORTED    ABORTED    ABORTED    ABORTED    -          -
CONNECTION_LOST   LOST       LOST       LOST       LOST       LOST       LOST       LOST       LOST       -
"""
"""Written a second time, from what the wire shall see: two events follow each other where a refusal is answered."""


def expected() -> dict[tuple[State, Event], State]:
    head, *rows = (line.split() for line in EXPECTED.strip().splitlines())
    return {
        (State[state], Event[event]): State[state if after == "-" else after]
        for event, *row in rows
        for state, after in zip(head, row, strict=True)
    }


def test_the_table_is_complete() -> None:
    assert set(TRANSITIONS) == set(State)
    assert set(expected()) == {(state, event) for state in State for event in Event}


# ——— how a connection gets into each state ———


def wait_for_a_request(rig: Rig, client: Client) -> None:
    pass


def receive(rig: Rig, client: Client) -> None:
    client.send(BIG)


def answer(rig: Rig, client: Client) -> None:
    rig.resource.later = True
    client.send(post(b"hello"))


def refuse(rig: Rig, client: Client) -> None:
    rig.resource.later = True
    client.send(UNWANTED)


def linger(rig: Rig, client: Client) -> None:
    client.send(UNWANTED)


def close(rig: Rig, client: Client) -> None:
    client.send(post(b"hello", b"Connection: close"))


def time_out(rig: Rig, client: Client) -> None:
    rig.server.wait(31.5)


def abort(rig: Rig, client: Client) -> None:
    client.send(UNWANTED + b"x" * (LINGER_BYTES + 1))
    flood(rig, client)


def lose(rig: Rig, client: Client) -> None:
    if not client.gone:
        client.hang_up()


GET_INTO: dict[State, Callable[[Rig, Client], None]] = {
    State.WAITING: wait_for_a_request,
    State.RECEIVING: receive,
    State.ANSWERING: answer,
    State.REFUSING: refuse,
    State.LINGERING: linger,
    State.CLOSING: close,
    State.TIMED_OUT: time_out,
    State.ABORTED: abort,
    State.LOST: lose,
}


# ——— how each event comes about ———


def flood(rig: Rig, client: Client) -> None:
    client.channel.dataReceived(b"x" * (LINGER_BYTES + 1))


def be_answered(rig: Rig, client: Client) -> None:
    if client.channel.requests and rig.resource.requests and not client.gone:
        rig.resource.answer_now()


FIRE: dict[Event, Callable[[Rig, Client], None]] = {
    Event.HEADERS_COMPLETE: lambda rig, client: client.channel.dataReceived(BIG),
    Event.BODY_COMPLETE: lambda rig, client: client.channel.allContentReceived(),
    Event.BODY_UNWANTED: lambda rig, client: client.channel.abandon_body(),
    Event.MALFORMED: lambda rig, client: client.channel.bad_request(),
    Event.ANSWERED: be_answered,
    Event.CLOSE: lambda rig, client: client.channel.loseConnection(),
    Event.HALF_CLOSED: lambda rig, client: client.channel.readConnectionLost(),
    Event.OVERDUE: lambda rig, client: client.channel.end(),
    Event.FLOODED: flood,
    Event.CUT_OFF: lambda rig, client: client.channel.abort(),
    Event.CONNECTION_LOST: lose,
}


Seen = tuple[bytes, bool, bool, bool, bool]


def seen(client: Client) -> Seen:
    """What the client sees: what was sent; whether our side is closed, all of it, or cut off; and whether we read."""
    return client.received, client.wire.half_closed, client.closed, client.aborted, client.paused


@pytest.fixture
def rig(new_rig: NewRig) -> Rig:
    return new_rig(linger_bytes=LINGER_BYTES)


def begin(rig: Rig, state: State) -> Client:
    client = rig.connect()
    GET_INTO[state](rig, client)
    assert client.channel.state is state
    rig.resource.later = True
    return client


@for_each("event", Event, ids=lambda event: event.name)
@for_each("state", State, ids=lambda state: state.name)
def test_each_event_in_each_state(new_rig: NewRig, state: State, event: Event) -> None:
    rig = new_rig(linger_bytes=LINGER_BYTES)
    client = begin(rig, state)
    requests, before = len(rig.resource.requests), seen(client)
    FIRE[event](rig, client)
    after = expected()[state, event]
    assert client.channel.state is after
    sent, half_closed, closed, aborted, paused = seen(client)
    sent = sent.removeprefix(before[0])
    if after is state:
        assert (sent, half_closed, closed, aborted, paused) == (b"", *before[1:])
        assert len(rig.resource.requests) == requests
    else:
        assert half_closed == (after is State.LINGERING or before[1])
        assert closed == (after in (State.CLOSING, State.TIMED_OUT, State.ABORTED) or before[2])
        assert aborted == (after is State.ABORTED or before[3])
        assert not paused
        assert bool(sent) == ((state, event) == (State.WAITING, Event.MALFORMED) or event is Event.ANSWERED)


@for_each("state", State, ids=lambda state: state.name)
def test_what_is_sent_is_parsed_in_some_states_only(new_rig: NewRig, state: State) -> None:
    rig = new_rig(linger_bytes=LINGER_BYTES)
    client = begin(rig, state)
    bodies, requests = len(rig.bodies), len(rig.resource.requests)
    sent = client.received
    client.channel.dataReceived(b"nonsense\r\n" * 3 + post(b"x"))
    assert client.received == (BAD_REQUEST if state is State.WAITING else sent)
    assert len(rig.bodies) == bodies
    assert len(rig.resource.requests) == requests
    assert (client.channel.state in PARSING) == (state in (State.RECEIVING, State.ANSWERING))


@for_each(
    ("state", "seconds"),
    [
        (State.WAITING, 30),
        (State.RECEIVING, 30),
        (State.ANSWERING, None),
        (State.REFUSING, None),
        (State.LINGERING, 10),
        (State.CLOSING, 10),
        (State.TIMED_OUT, 0),
        (State.ABORTED, None),
        (State.LOST, None),
    ],
    ids=lambda value: value.name if isinstance(value, State) else "",
)
def test_how_long_a_connection_may_stay_in_each_state(new_rig: NewRig, state: State, seconds: int | None) -> None:
    rig = new_rig(linger_bytes=LINGER_BYTES)
    client = begin(rig, state)
    rig.server.wait(seconds if seconds is not None else 600, 0.5)
    assert client.channel.state is state
    if seconds is not None:
        rig.server.wait(1.5, 0.5)
        assert client.channel.state is expected()[state, Event.OVERDUE]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event.MALFORMED, MalformedReport),
        (Event.OVERDUE, TooSlow),
        (Event.CONNECTION_LOST, ClientGone),
    ],
    ids=lambda value: value.name if isinstance(value, Event) else "",
)
def test_a_body_is_told_why_it_ends(rig: Rig, event: Event, reason: type[Exception]) -> None:
    client = begin(rig, State.RECEIVING)
    FIRE[event](rig, client)
    assert [type(given) for given in rig.bodies[0].refused] == [reason]


@pytest.mark.parametrize("state", [State.WAITING, State.RECEIVING, State.REFUSING], ids=lambda state: state.name)
def test_a_paused_connection_reads_on_when_it_lingers(rig: Rig, state: State) -> None:
    """Or the client, which still sends, would never come to read the answer."""
    client = begin(rig, state)
    client.channel.incoming.pause()
    assert client.paused
    rig.resource.later = False
    {
        State.WAITING: FIRE[Event.MALFORMED],
        State.RECEIVING: FIRE[Event.OVERDUE],
        State.REFUSING: FIRE[Event.ANSWERED],
    }[state](rig, client)
    assert client.lingering
    client.channel.incoming.resume()
    assert client.lingering


@pytest.mark.parametrize(
    "event", [Event.CLOSE, Event.OVERDUE, Event.CUT_OFF, Event.CONNECTION_LOST], ids=lambda event: event.name
)
def test_requests_that_wait_for_their_turn_are_dropped_with_the_connection(
    rig: Rig, event: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = rig.connect()
    monkeypatch.setattr(rig.server.site.turns, "is_over", lambda: True)
    client.send(post(b"one") + post(b"two"))
    assert client.paused
    FIRE[event](rig, client)
    rig.server.clock.advance(0)
    assert [body.data for body in rig.bodies] == [b"one"]


def test_no_request_follows_a_connection_that_is_being_closed(rig: Rig) -> None:
    """TLS still hands over what comes until the client has closed, too; but nothing can be sent any more."""
    client = begin(rig, State.TIMED_OUT)
    client.channel.dataReceived(post(b"hello"))
    assert rig.bodies == rig.resource.requests == []


def test_a_refused_client_that_has_closed_its_side_is_answered(rig: Rig) -> None:
    client = begin(rig, State.REFUSING)
    client.channel.readConnectionLost()
    rig.resource.answer_now()
    assert client.response.status == 404
    assert client.closed
