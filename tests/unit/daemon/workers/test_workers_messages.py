from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.daemon.workers.messages import (
    Counted,
    CrashEvents,
    LineSplitter,
    Message,
    Ready,
    Saving,
    Seen,
    Sinks,
    decode,
    encode,
)
from collectord.model import CrashEvent
from collectord.observe.sinks import SinkState
from tests.support.cases import for_each

KEPT = CrashEvent(at=1.5, crash_id="a", kind="kept", where="/a", about={"product": "\n\ud800", "size": 3})
MOVED = CrashEvent(at=2.5, crash_id="b", kind="moved", where="s3://b")
MESSAGES = [
    Ready(),
    CrashEvents([KEPT, MOVED]),
    CrashEvents([]),
    Seen(([["1:a", "App", "1.0", 3, 1]], [["1:a", "somewhere", 1.5, "id"]])),
    Sinks([SinkState("s3://b", "it is away", 1.5, ("no checksums",)), SinkState("c", is_tried=False)]),
    Saving({"/a": 0.3}),
    Saving({}),
    Counted([["a", "counter", [["a_total", {"b": "c"}, 1.0]]]]),
]


@for_each("message", MESSAGES)
def test_there_and_back(message: Message) -> None:
    assert decode(encode(message)) == message
    assert b"\n" not in encode(message)


@for_each("line", [b"", b"{}", b"[]", b'{"ready": false}', b'{"happened": [[1]]}', b"\xff", b"{"])
def test_what_nobody_understands(line: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(line)


@given(st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b"")), max_size=5), st.data())
def test_lines_in_any_pieces(lines: Sequence[bytes], data: st.DataObject) -> None:
    sent = b"".join(line + b"\n" for line in lines) + b"unfinished"
    got: list[bytes] = []
    cut = LineSplitter(got.append)
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        cut.feed(sent[:size])
        sent = sent[size:]
    assert got == list(lines)
