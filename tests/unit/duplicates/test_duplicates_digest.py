"""
Which reports are the same, and which are not.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from collectord.duplicates.digest import SIZE, VOLATILE, digest_of
from collectord.model import CrashReport, Dump, InMemory, Note, Payload
from tests.support.cases import for_each

PAYLOAD = Payload(structure="multipart", compressed=False, size=1234, user_agent="Crashpad/1.0")
GUID = "6f3f5bd2-54a0-4e53-8fd8-2f0d8f6f8a0e"


def dump(name: str = "upload_file_minidump", sha256: str = "aa", size: int = 4) -> Dump:
    return Dump(name=name, size=size, sha256=sha256, content=InMemory([]))


def report(annotations: Mapping[str, str], *dumps: Dump, has_minidump: bool = True) -> CrashReport:
    return CrashReport(annotations=annotations, dumps=dumps, notes=[], payload=PAYLOAD, has_minidump=has_minidump)


FIRST = report({"ProductName": "Fenix", "Version": "1"}, dump(), dump("log", "bb"))


@for_each(
    "again",
    [
        pytest.param(lambda r: r, id="equal"),
        pytest.param(lambda r: evolve(r, dumps=r.dumps[::-1]), id="files in another order"),
        pytest.param(lambda r: evolve(r, annotations=dict([*r.annotations.items()][::-1])), id="annotations, too"),
        pytest.param(
            lambda r: evolve(r, payload=Payload(structure="json", compressed=True, size=1, user_agent="curl")),
            id="sent in another way",
        ),
        pytest.param(lambda r: evolve(r, notes=[Note("repaired", "a blank")]), id="repaired"),
        *(
            pytest.param(lambda r, name=name: evolve(r, annotations={**r.annotations, name: "1"}), id=name)
            for name in sorted(VOLATILE)
        ),
    ],
)
def test_the_same_report(again: Callable[[CrashReport], CrashReport]) -> None:
    digest = digest_of(FIRST)
    assert digest is not None
    assert len(digest) == SIZE
    assert digest_of(again(FIRST)) == digest


@for_each(
    "other",
    [
        pytest.param({"annotations": {"ProductName": "Fenix", "Version": "2"}}, id="a value"),
        pytest.param({"annotations": {"ProductName": "Fenix", "Versio": "n1"}}, id="a name"),
        pytest.param({"annotations": {"ProductName": "Fenix"}}, id="one less"),
        pytest.param({"annotations": {"ProductName": "Fenix", "Version": "1", "Email": "a@b"}}, id="one more"),
        pytest.param({"dumps": [dump(), dump("log", "cc")]}, id="a file"),
        pytest.param({"dumps": [dump()]}, id="a file less"),
        pytest.param({"dumps": [dump(), dump("log2", "bb")]}, id="a file's name"),
        pytest.param({"notes": [Note("left_out", "big: 3 bytes, left out")]}, id="something left out"),
        pytest.param({"notes": [Note("cut", "long: cut")]}, id="something cut"),
    ],
)
def test_another_report(other: Mapping[str, Any]) -> None:
    assert digest_of(evolve(FIRST, **other)) != digest_of(FIRST)


@for_each(
    ("name", "value", "is_known"),
    [
        ("guid", GUID, True),
        ("CrashPingUUID", GUID, True),
        ("EventID", "1", True),
        ("event_id", "1", True),
        ("Crash-GUID", "UE4CC-1", True),
        ("uuid", GUID, True),
        ("guid", "", False),
        ("guid", "00000000-0000-0000-0000-000000000000", False),
        ("guid", "Null", False),
        ("BuildID", "20240704121409", False),
    ],
)
def test_a_report_without_a_minidump_needs_an_id_of_its_own(name: str, value: str, is_known: bool) -> None:
    for dumps in ([], [dump(size=0)], [dump("settings")]):
        without = report({"ProductName": "Fenix", name: value}, *dumps, has_minidump=False)
        assert (digest_of(without) is not None) is is_known
    assert digest_of(report({name: value}, dump())) is not None


texts = st.text(st.characters(exclude_characters="\0"), max_size=3)
reports = st.builds(
    lambda annotations, names: report(annotations, dump(), *(dump(name, "bb") for name in names)),
    st.dictionaries(texts.filter(lambda name: name not in VOLATILE), texts, max_size=3),
    st.lists(st.sampled_from(["a", "b", "a_2"]), unique=True),
)


@given(reports, reports)
def test_only_equal_reports_have_equal_digests(one: CrashReport, other: CrashReport) -> None:
    is_equal = one.annotations == other.annotations and sorted(d.name for d in one.dumps) == sorted(
        d.name for d in other.dumps
    )
    assert (digest_of(one) == digest_of(other)) is is_equal
