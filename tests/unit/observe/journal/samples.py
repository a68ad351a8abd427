"""
Crash events, and the lines that a journal has of them.
"""

from typing import get_args

from hypothesis import strategies as st

from collectord.model import CrashEvent, Step
from collectord.observe.journal.lines import format_event

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
NEIGHBOUR = "8f63aaaa-57c6-4e5d-b2cf-cabde2160622"
AT = 1466608789.123
TIME = "2016-06-22T15:19:49.123Z"
HOSTILE = "a\tb\nc\\d\\u0009\x00\x1b[31m\x85\u2028\ud800é漢😀\r"

texts = st.text(st.characters(), max_size=20) | st.sampled_from(["/mnt/a b", HOSTILE, "\\", "\\u00", "\\\\u0009"])
digests = st.binary(min_size=16, max_size=16).map(bytes.hex)
events = st.builds(
    CrashEvent,
    at=st.floats(0, 4e9),
    crash_id=st.sampled_from([CRASH_ID, NEIGHBOUR]),
    kind=st.sampled_from(get_args(Step)),
    where=texts,
    about=st.builds(dict, rule=texts)
    | st.builds(dict, rule=texts, digest=digests, product=texts, version=texts, size=st.integers(1, 10**9))
    | st.builds(dict, place=texts)
    | st.just({}),
)


def line_of(kind: Step = "kept", where: str = "/a", crash_id: str = CRASH_ID, at: float = AT) -> bytes:
    return format_event(CrashEvent(at=at, crash_id=crash_id, kind=kind, where=where)).encode()
