"""
The messages between a worker and its parent, one to a line.

The parent writes to the worker's standard input. The first line is the settings, as
L{to_wire<collectord.settings.snapshot.SettingsSnapshot.to_wire>} makes it. Later lines are C{reload} with other
settings, C{hung} with the number of workers that hang, C{drain}, or C{stop}; for one that moves crashes also C{kept}
with the stores that have got crashes and how many, as JSON, and C{pressed} with 1 or 0. When the input ends, the parent
is gone.

The worker writes JSON objects to the descriptor L{CHANNEL}: the classes below. It writes at least one a second, which
shows that its reactor runs.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import astuple, fields, frozen

from collectord.index.tally import Tally
from collectord.model import CrashEvent
from collectord.observe.aggregate import Snapshot
from collectord.observe.sinks import SinkState

CHANNEL = 3
"""The descriptor on which a worker writes to its parent."""

TABLE = 4
"""The descriptor of the memory that all workers share. The descriptors of the ports come after it."""

RELOAD = b"reload "
DRAIN = b"drain"
HUNG = b"hung "
KEPT = b"kept "
PRESSED = b"pressed "
STOP = b"stop"

_EVENT_FIELDS = [field.name for field in fields(CrashEvent)]


class Work(Enum):
    """What a worker does: it takes submissions and moves crashes, or one of both."""

    BOTH = "both"
    RECEIVE = "receive"
    MOVE = "move"

    @property
    def receives(self) -> bool:
        """Whether it takes submissions."""
        return self is not Work.MOVE

    @property
    def moves(self) -> bool:
        """Whether it moves crashes."""
        return self is not Work.RECEIVE

    @property
    def noun(self) -> str:
        """What a process that does it is called."""
        return "worker" if self.receives else "mover"


@frozen
class Ready:
    """The worker takes submissions from now on, or moves crashes if that is all that it does."""


@frozen
class CrashEvents:
    """Things that have happened to crashes in the worker."""

    events: Sequence[CrashEvent]


@frozen
class Counted:
    """What the worker has counted so far, in all of its metrics."""

    metrics: Snapshot


@frozen
class Seen:
    """Reports that the worker has judged since it said so last, counted by fingerprint and product."""

    tally: Tally


@frozen
class Sinks:
    """How the destinations and publishers are that the worker moves crashes to."""

    states: Sequence[SinkState]


@frozen
class Saving:
    """For how many seconds the oldest crash has waited that is being saved in the worker, by the name of its store."""

    waited: Mapping[str, float]


Message = Ready | CrashEvents | Counted | Seen | Sinks | Saving


def encode(message: Message) -> bytes:
    """Return C{message} as a line, without the newline."""
    match message:
        case Ready():
            value: dict[str, Any] = {"ready": True}
        case CrashEvents(events):
            value = {"happened": [astuple(event, recurse=False) for event in events]}
        case Counted(metrics):
            value = {"counted": metrics}
        case Seen(tally):
            value = {"seen": tally}
        case Sinks(states):
            value = {"sinks": [astuple(state) for state in states]}
        case Saving(waited):
            value = {"saving": waited}
    return json.dumps(value).encode()


def decode(line: bytes) -> Message:
    """
    Return the message that L{encode} has made into C{line}.

    @raise ValueError: the line is no message.
    @raise TypeError: it has the form of a message, and wrong contents.
    """
    match json.loads(line):
        case {"ready": True}:
            return Ready()
        case {"happened": list(events)}:
            return CrashEvents([CrashEvent(**dict(zip(_EVENT_FIELDS, each, strict=True))) for each in events])
        case {"counted": list(metrics)}:
            return Counted(metrics)
        case {"seen": [list(counts), list(facts)]}:
            return Seen((counts, facts))
        case {"sinks": list(states)}:
            return Sinks(
                [SinkState(name, why, wait, tuple(cautions), tried) for name, why, wait, cautions, tried in states]
            )
        case {"saving": dict(waited)}:
            return Saving(waited)
    raise ValueError(f"no message: {line[:80]!r}")


class LineSplitter:
    """
    Cuts a stream of bytes into lines.

    @param received: called with each line, without its newline.
    """

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        for line in self._whole(data):
            self._received(line)

    def _whole(self, data: bytes) -> Iterable[bytes]:
        first, *rest = data.split(b"\n")
        self._pieces.append(first)
        for piece in rest:
            line = b"".join(self._pieces)
            self._pieces = [piece]
            yield line
