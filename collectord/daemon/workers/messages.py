"""
What a worker and its parent tell each other, as lines.

Down, to the worker's standard input: what it is to live by
(L{collectord.settings.snapshot.SettingsSnapshot.wire}), and later C{reload} with the same, C{hung} with the number of
workers that hang, C{drain} or C{stop}; its end means that the parent is gone.
Up, on L{CHANNEL}: JSON objects of one key each, one a second at least, which show that the reactor runs.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import astuple, fields, frozen

from collectord.model import CrashEvent
from collectord.observe.aggregate import Snapshot

CHANNEL = 3
"""The descriptor of a worker that leads to its parent. Its ports come after it."""

RELOAD = b"reload "
DRAIN = b"drain"
HUNG = b"hung "
STOP = b"stop"

_EVENT_FIELDS = [field.name for field in fields(CrashEvent)]


@frozen
class Ready:
    """It takes submissions."""


@frozen
class CrashEvents:
    """What became of crashes."""

    events: Sequence[CrashEvent]


@frozen
class Counted:
    """Its metrics by now."""

    metrics: Snapshot


Message = Ready | CrashEvents | Counted


def encode(message: Message) -> bytes:
    """One line, without its end."""
    match message:
        case Ready():
            value: dict[str, Any] = {"ready": True}
        case CrashEvents(events):
            value = {"happened": [astuple(event, recurse=False) for event in events]}
        case Counted(metrics):
            value = {"counted": metrics}
    return json.dumps(value).encode()


def decode(line: bytes) -> Message:
    """
    What L{encode} made.

    @raise ValueError: it did not.
    """
    match json.loads(line):
        case {"ready": True}:
            return Ready()
        case {"happened": list(events)}:
            return CrashEvents([CrashEvent(**dict(zip(_EVENT_FIELDS, each, strict=True))) for each in events])
        case {"counted": list(metrics)}:
            return Counted(metrics)
    raise ValueError(f"no message: {line[:80]!r}")


class LineSplitter:
    """
    Cuts what comes into lines.

    @param received: is given each, without its end.
    """

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        for line in self._whole(data):
            self._received(line)

    def _whole(self, data: bytes) -> Iterable[bytes]:
        first, *rest = data.split(b"\n")
        self._pieces.append(first)
        for piece in rest:
            line = b"".join(self._pieces)
            self._pieces = [piece]
            yield line
