"""
What a connection can be doing, what can happen to it, and the table of what is allowed when.
"""

from collections.abc import Mapping
from enum import Enum, auto


class State(Enum):
    """What a connection is doing."""

    __hash__ = object.__hash__  # each member is one object, and this costs less than hashing its name

    WAITING = auto()
    """It waits for a request, or for the rest of its headers."""
    RECEIVING = auto()
    """It receives the body of a request."""
    ANSWERING = auto()
    """A request has come whole, and is being answered. What the client sends now is kept for later."""
    REFUSING = auto()
    """A request is being answered before its body has ended. No other request can follow."""
    LINGERING = auto()
    """The early answer is written. What the client still sends is read and dropped."""
    CLOSING = auto()
    """Nothing more is written. The connection closes once everything is sent."""
    TIMED_OUT = auto()
    """As C{CLOSING}, but it has taken too long already."""
    ABORTED = auto()
    """The connection is cut off, whether everything is sent or not."""
    LOST = auto()
    """The connection has ended."""


class Event(Enum):
    """What can happen to a connection."""

    __hash__ = object.__hash__

    HEADERS_COMPLETE = auto()
    """The headers of a request have come whole."""
    BODY_COMPLETE = auto()
    """The body of a request has come whole."""
    BODY_UNWANTED = auto()
    """The request is answered although its body has not ended."""
    MALFORMED = auto()
    """What the client sends is no valid request, or no valid body."""
    ANSWERED = auto()
    """The answer is written."""
    CLOSE = auto()
    """The connection is to be closed after what is written."""
    HALF_CLOSED = auto()
    """The client sends nothing more. It may still wait for an answer."""
    OVERDUE = auto()
    """The connection takes too long."""
    FLOODED = auto()
    """The client goes on sending, more than a lingering close reads."""
    CUT_OFF = auto()
    """The process waits no longer."""
    CONNECTION_LOST = auto()
    """The transport has ended the connection."""


_ANY_TIME = {Event.CUT_OFF: State.ABORTED, Event.CONNECTION_LOST: State.LOST}

TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.WAITING: {
        Event.HEADERS_COMPLETE: State.RECEIVING,
        Event.MALFORMED: State.LINGERING,
        Event.CLOSE: State.CLOSING,
        Event.HALF_CLOSED: State.CLOSING,
        Event.OVERDUE: State.TIMED_OUT,
        **_ANY_TIME,
    },
    State.RECEIVING: {
        Event.BODY_COMPLETE: State.ANSWERING,
        Event.BODY_UNWANTED: State.REFUSING,
        Event.MALFORMED: State.REFUSING,
        Event.OVERDUE: State.REFUSING,
        Event.CLOSE: State.CLOSING,
        Event.HALF_CLOSED: State.CLOSING,
        **_ANY_TIME,
    },
    State.ANSWERING: {Event.ANSWERED: State.WAITING, Event.CLOSE: State.CLOSING, **_ANY_TIME},
    State.REFUSING: {Event.CLOSE: State.LINGERING, **_ANY_TIME},
    State.LINGERING: {
        Event.HALF_CLOSED: State.CLOSING,
        Event.OVERDUE: State.TIMED_OUT,
        Event.FLOODED: State.ABORTED,
        **_ANY_TIME,
    },
    State.CLOSING: {Event.OVERDUE: State.ABORTED, **_ANY_TIME},
    State.TIMED_OUT: {Event.OVERDUE: State.ABORTED, **_ANY_TIME},
    State.ABORTED: {Event.CONNECTION_LOST: State.LOST},
    State.LOST: {},
}
"""The events that are allowed in each state, and the state that follows. Any other event changes nothing."""

PARSING = frozenset({State.WAITING, State.RECEIVING, State.ANSWERING})
"""States in which what the client sends is taken for requests. In all others it is dropped."""
