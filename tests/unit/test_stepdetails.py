"""
What is told of a step of a crash is written as one text, and read again.
"""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from collectord.model import Dump, InMemory
from collectord.stepdetails import NO_DETAILS, DumpTold, StepDetails, kept_details, read_details, sent_details
from collectord.testing.crashes import make_crash
from tests.support.cases import for_each


def dump(name: str, size: int, content_type: str | None = None, *, is_minidump: bool = False) -> Dump:
    return Dump(
        name=name, size=size, sha256="", content=InMemory([]), content_type=content_type, is_minidump=is_minidump
    )


def test_a_crash_that_is_kept() -> None:
    minidump = dump("upload_file_minidump", 7510, "text/html", is_minidump=True)
    log = dump("log", 10, "Text/Plain; charset=x")
    sampled = {"metadata": {"sampled": {"seen": 8841, "kept": 187}}}
    crash = evolve(make_crash(), began=100.0, dumps=[minidump, log], raw_crash=sampled)
    text = kept_details(crash, 100.8124, 0.0041)
    assert text == "took=4 received=812 sampled=8841/187 dumps=upload_file_minidump:7510:minidump,log:10:text/plain"
    told = (DumpTold("upload_file_minidump", 7510, "minidump"), DumpTold("log", 10, "text/plain"))
    assert read_details(text) == StepDetails(took_ms=4, received_ms=812, seen=8841, kept=187, dumps=told)


def test_what_is_not_known_is_not_told() -> None:
    crash = evolve(make_crash(), dumps=[])
    assert kept_details(crash, 100.0, 0.2504) == "took=250"
    assert read_details("took=250") == StepDetails(took_ms=250)


def test_a_crash_that_was_confirmed() -> None:
    assert sent_details(0.0444, 0) == "took=44"
    assert read_details(sent_details(61.2, 3)) == StepDetails(took_ms=61_200, failures=3)


def test_of_many_dumps_only_some_are_told() -> None:
    crash = evolve(make_crash(), dumps=[dump("x" * 30, 2**40, "a" * 40 + "/" + "b" * 40) for _ in range(1000)])
    text = kept_details(crash, 0.0, 0.0)
    assert len(text) < 1200
    details = read_details(text)
    assert (len(details.dumps), details.more_dumps) == (8, 992)


@for_each(
    "content_type",
    ["application/octet-stream", "", "text", "a,b:c/d e", "x/y=z", "a" * 41 + "/b", "text/\u00e4", "text/a\tb"],
)
def test_what_a_client_says_that_is_no_media_type_is_not_told(content_type: str) -> None:
    crash = evolve(make_crash(), dumps=[dump("log", 10, content_type)])
    assert read_details(kept_details(crash, 0.0, 0.0)).dumps == (DumpTold("log", 10),)


@given(st.text(max_size=80) | st.from_regex(r"(took|received|sampled|dumps|more|failures)=[0-9:,/a ]*", fullmatch=True))
def test_any_text_is_read(text: str) -> None:
    read_details(text)


def test_nothing() -> None:
    assert read_details("") == NO_DETAILS
