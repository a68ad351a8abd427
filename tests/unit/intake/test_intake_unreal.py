import gzip
import zlib
from collections.abc import Callable

import pytest

from collectord.errors import MalformedReport
from collectord.model import CrashReport
from tests.support.cases import for_each
from tests.support.unrealcontainer import compressed, container, context
from tests.unit.dialects.rows import row
from tests.unit.intake.receiving import receive_as

UNREAL = row('path = "/a"\nbody = "unreal"\nminidump = ["MDMP"]')
FILES = {
    "CrashContext.runtime-xml": context({"GameName": "App"}),
    "UEMinidump.dmp": b"MDMP" + bytes(range(256)) * 20,
    "empty.log": b"",
    "App.log": b"a log\n",
}
KEPT = {
    "CrashContextruntimexml": FILES["CrashContext.runtime-xml"],
    "upload_file_minidump": FILES["UEMinidump.dmp"],
    "emptylog": b"",
    "Applog": b"a log\n",
}


def receive(content: bytes, piece: int = 65536) -> tuple[CrashReport, dict[str, bytes]]:
    return receive_as(UNREAL, content, piece=piece, content_type=b"application/octet-stream")


def notes_of(report: CrashReport) -> list[str]:
    return [note.text for note in report.notes if " is called " not in note.text and "annotations" not in note.text]


@for_each("old", [False, True])
@for_each("piece", [1, 7, 65536])
def test_its_files(old: bool, piece: int) -> None:
    report, dumps = receive(compressed(FILES, old=old), piece)
    assert dumps == KEPT
    assert notes_of(report) == []
    assert (report.payload.structure, report.payload.compressed, report.has_minidump) == ("unreal", True, True)
    assert [dump.filename for dump in report.dumps] == list(FILES)


@for_each("pack", [bytes, gzip.compress])
def test_compressed_by_another_or_not_at_all(pack: Callable[[bytes], bytes]) -> None:
    assert receive(pack(container(FILES)))[1] == KEPT


@for_each("old", [False, True])
@for_each(
    ("content_encoding", "pack"),
    [
        (b"gzip", gzip.compress),  # by a proxy
        (b"deflate, gzip", gzip.compress),
        (b"deflate", bytes),
        (b"identity", bytes),
    ],
)
def test_what_a_header_says_is_around_it(content_encoding: bytes, pack: Callable[[bytes], bytes], old: bool) -> None:
    sent = pack(compressed(FILES, old=old))
    report, dumps = receive_as(UNREAL, sent, content_type=None, content_encoding=content_encoding)
    assert dumps == KEPT
    assert notes_of(report) == []


@for_each("old", [False, True])
@for_each("size", [1000, 3000, 6000])
def test_what_is_cut_off(old: bool, size: int) -> None:
    report, dumps = receive(zlib.compress(container(FILES, old=old)[:size]))
    assert all(KEPT[name].startswith(content) for name, content in dumps.items())
    assert notes_of(report) == ["the container of Unreal Engine: it is cut off; its end may be missing"]


def test_nothing_but_a_header() -> None:
    with pytest.raises(MalformedReport, match="no_annotations"):
        receive(zlib.compress(container(FILES)[:600]))


@for_each(
    "content",
    [b"CR", b"CR1", b"CR1\xff\xff\xff\xff", b"x" * 100, bytes(15), b"CR1" + bytes(12) + b"\xff" * 4, b"\4\1\0\0"],
)
def test_what_is_no_container(content: bytes) -> None:
    with pytest.raises(MalformedReport, match="bad_unreal"):
        receive(zlib.compress(content))


def test_what_is_not_compressed_as_it_has_to_be() -> None:
    with pytest.raises(MalformedReport, match="bad_deflate"):
        receive(b"no zlib, and no container")


@for_each("old", [False, True])
def test_what_follows_its_end(old: bool) -> None:
    report, dumps = receive(zlib.compress(container(FILES, old=old) + b"more"))
    assert dumps == KEPT
    assert notes_of(report) == ["the container of Unreal Engine: 4 bytes that can't be read are left out after 4 files"]


@for_each("length", [-1, -(2**31)])
def test_a_file_of_no_length(length: int) -> None:
    lie = (4).to_bytes(4, "little") + bytes(4) + length.to_bytes(4, "little", signed=True)
    broken = container(FILES | {"x": b""})[: -(260 + 12)] + lie + bytes(10_000)
    report, dumps = receive(zlib.compress(broken))
    assert dumps == KEPT
    assert "that can't be read are left out after 4 files" in notes_of(report)[0]


def test_a_wrong_number_of_files_in_an_old_one() -> None:
    broken = container(FILES, old=True)[:-4] + (9).to_bytes(4, "little")
    report, dumps = receive(zlib.compress(broken))
    assert dumps == KEPT
    assert notes_of(report) == ["the container of Unreal Engine: it says that it has 9 files, and has 4"]


@for_each("old", [False, True])
def test_the_containers_here_are_those_that_others_read(old: bool) -> None:
    unreal = pytest.importorskip("symbolic.unreal", reason="needs symbolic 8 (pip install symbolic==8.8.0)")
    crash = unreal.Unreal4Crash.from_bytes(compressed(FILES, old=old))
    assert [(file.name, file.size) for file in crash.files()] == [(name, len(data)) for name, data in FILES.items()]
