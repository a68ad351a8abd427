import bz2
import gzip
import io
import lzma
import random
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from collectord.errors import TooLarge
from collectord.intake.formdata import FormDataParser
from collectord.intake.receiver import Limits
from collectord.intake.unpacking import UnpackingParser
from collectord.model import CrashReport
from tests.support.cases import for_each
from tests.unit.dialects.rows import row
from tests.unit.intake.parts import (
    BOUNDARY,
    annotation,
    body,
    dump,
    part,
)
from tests.unit.intake.receiving import receive_as

MINIDUMP = b"MDMP" + random.Random(1).randbytes(50_000) + bytes(100_000)
UNPACK = row('path = "/a"\nunpack = true\nbody = "multipart or dump"\nminidump = ["MDMP"]')
SMALL = Limits(read=1_000_000, body=10_000_000, parts=20, annotations=1000)
LARGE = Limits(read=10_000_000, body=10_000_000, parts=20, annotations=1000)


class Unseekable(io.RawIOBase):
    """A file to which a zip file is written with the sizes after the entries."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.written += bytes(data)
        return len(data)


def receive(content: bytes, **how: Any) -> tuple[CrashReport, dict[str, bytes]]:
    return receive_as(UNPACK, content, **how)


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def streamed(*entries: tuple[str, bytes]) -> bytes:
    file = Unseekable()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.written


def zstandard(content: bytes) -> bytes:
    zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    return bytes(zstd.compress(content))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zip": lambda content: zipped(("a.dmp", content)),
    "stored": lambda content: zipped(("a.dmp", content), method=zipfile.ZIP_STORED),
    "streamed": lambda content: streamed(("a.dmp", content)),
}


@for_each("packer", list(PACKERS))
@for_each("piece", [1000, 65536, 10_000_000])
def test_a_packed_minidump(packer: str, piece: int) -> None:
    packed = PACKERS[packer](MINIDUMP)
    report, dumps = receive(body(annotation(b"a"), dump(b"d", packed), dump(b"e", b"x")), piece=piece)
    assert dumps == {"upload_file_minidump": MINIDUMP, "e": b"x"}
    assert [note.text for note in report.notes] == []
    assert report.has_minidump


@for_each("packer", list(PACKERS))
def test_one_byte_after_the_other(packer: str) -> None:
    _, dumps = receive(body(dump(b"d", PACKERS[packer](MINIDUMP[:300]))), piece=1)
    assert dumps == {"upload_file_minidump": MINIDUMP[:300]}


@for_each("packer", list(PACKERS))
@for_each("content", [b"", b"MD", b"text", bytes(200_000)])
def test_what_is_no_minidump_stays_packed(packer: str, content: bytes) -> None:
    packed = PACKERS[packer](content)
    _, dumps = receive(body(annotation(b"a"), dump(b"log", packed)))
    assert dumps == {"log": packed}


@for_each(
    "content",
    [
        b"BZh9" + b"x" * 1000,
        b"\xfd7zX",
        b"\xfd7zXZ\0" + b"x" * 300_000,
        lzma.compress(b"MDMP", preset=7),  # it takes more memory than may be used
        b"",
        b"P",
        b"PK",
        b"PK\3\4",
        b"PK\3\4" + bytes(100),
        b"\x1f\x8b\x08",
        b"\x1f\x8b\x08" + b"x" * 1000,
        b"\x28\xb5\x2f\xfd" + b"x" * 300_000,
    ],
    ids=lambda content: content[:10].hex(),
)
def test_what_only_looks_packed(content: bytes) -> None:
    _, dumps = receive(body(annotation(b"a"), dump(b"log", content)))
    assert dumps == {"log": content}


def test_a_part_without_a_file_name() -> None:
    packed = gzip.compress(MINIDUMP[:300])
    _, dumps = receive(body(part(b'Content-Disposition: form-data; name="d"', packed)))
    assert dumps == {"upload_file_minidump": MINIDUMP[:300]}


@for_each("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@for_each("piece", [1, 65536])
def test_more_files_in_a_zip_file(method: int, piece: int) -> None:
    entries = [("a/b.dmp", MINIDUMP[:300]), ("c/log.txt", b"some text"), ("empty", b""), ("\u00fc.txt", b"y")]
    _, dumps = receive(body(dump(b"upload_file_minidump", zipped(*entries, method=method))), piece=piece)
    assert dumps == {"upload_file_minidump": MINIDUMP[:300], "logtxt": b"some text", "empty": b"", "txt": b"y"}


@for_each("packer", ["gzip", "zip", "stored", "streamed"])
def test_a_minidump_that_is_cut_off(packer: str) -> None:
    packed = PACKERS[packer](MINIDUMP)[:40_000]
    report, dumps = receive(body(dump(b"d", packed)))
    assert MINIDUMP.startswith(dumps["upload_file_minidump"])
    assert len(dumps["upload_file_minidump"]) > 30_000
    assert "cut off" in report.notes[0].text


def test_bzip2_gives_little_at_once_since_it_takes_long() -> None:
    """Others have their turn after so many pieces."""
    parser = UnpackingParser(FormDataParser(BOUNDARY), 10_000_000, lambda size: None)
    sent = body(dump(b"d", bz2.compress(b"MDMP" + bytes(300_000))))
    pieces = [event for event in [*parser.parse(sent), *parser.close()] if isinstance(event, bytes)]
    assert sum(map(len, pieces)) == 300_004
    assert max(map(len, pieces)) <= 8192


def test_a_minidump_of_which_bzip2_gives_nothing_for_long() -> None:
    content = b"MDMP" + random.Random(1).randbytes(300_000)
    _, dumps = receive(body(dump(b"d", bz2.compress(content))))
    assert dumps == {"upload_file_minidump": content}


@for_each("packer", ["gzip", "xz", "bzip2"])
def test_a_minidump_in_several_streams(packer: str) -> None:
    pack = PACKERS[packer]
    _, dumps = receive(body(dump(b"d", pack(b"MD") + pack(b"MP and so on") + pack(b"!"))))
    assert dumps == {"upload_file_minidump": b"MDMP and so on!"}


@for_each("packer", ["xz", "bzip2"])
def test_of_a_damaged_stream_what_comes_before_is_kept(packer: str) -> None:
    content = b"MDMP" + random.Random(1).randbytes(100_000)
    packed = bytearray(PACKERS[packer](content) + PACKERS[packer](content))
    packed[-50_000:-49_900] = bytes(100)
    report, dumps = receive(body(dump(b"d", bytes(packed)), dump(b"e", b"x")), limits=LARGE)
    assert dumps["upload_file_minidump"].startswith(content)
    assert dumps["e"] == b"x"
    assert "damaged" in report.notes[0].text


@for_each("packer", ["gzip", "zip"])
def test_a_minidump_that_is_damaged(packer: str) -> None:
    packed = bytearray(PACKERS[packer](b"MDMP" + b"".join(b"%d " % n for n in range(50_000))))
    packed[90_000:90_100] = bytes(100)
    report, dumps = receive(body(dump(b"d", bytes(packed)), dump(b"e", b"x")), limits=SMALL)
    assert dumps["upload_file_minidump"].startswith(b"MDMP0 1 2 3 ")
    assert dumps["e"] == b"x"
    assert "damaged" in report.notes[0].text


@for_each("packer", ["gzip", "zstd", "xz", "bzip2", "zip"])
@for_each("count", [1, 4])
def test_a_bomb(packer: str, count: int) -> None:
    bomb = PACKERS[packer](b"MDMP" + bytes(1_200_000 // count))
    with pytest.raises(TooLarge):
        receive(body(*(dump(b"d%d" % n, bomb) for n in range(count))), limits=SMALL)


@for_each("packer", ["zstd", "xz", "bzip2"])
def test_decoders_take_memory_one_after_the_other(packer: str) -> None:
    reserved: list[int] = []
    parser = UnpackingParser(FormDataParser(BOUNDARY), 10_000_000, reserved.append)
    packed = dump(b"upload_file_minidump", PACKERS[packer](b"MDMP" + bytes(300_000)))
    most = 0
    for number in range(10):
        list(parser.parse(body(packed) if number == 9 else packed))
        most = max(most, sum(reserved))
    list(parser.close())
    assert sum(reserved) == 0
    assert 0 < most < 1_000_000


@pytest.mark.slow
def test_a_zip_file_of_too_many_files() -> None:
    packed = zipped(("a", MINIDUMP[:300]), *((f"f{n}", b"") for n in range(1200)))
    limits = Limits(read=1_000_000, body=1_000_000, parts=5000, annotations=1000)
    report, dumps = receive(body(dump(b"d", packed)), limits=limits)
    assert len(dumps) == 1000
    assert "can't be unpacked" in str(report.notes)


# ——— a form in the place of a minidump ———


def in_form(*parts: bytes, boundary: bytes = b"-------------------------0123456789abcdef") -> bytes:
    """Of parts, or of a minidump alone."""
    if len(parts) == 1 and parts[0].startswith(b"MDMP"):
        parts = (dump(b"upload_file_minidump", parts[0]),)
    return body(*parts).replace(b"--" + BOUNDARY, b"--" + boundary)


@for_each("piece", [1, 7, 100, 65536])
@for_each("line_end", [b"\r\n", b"\n"])
def test_a_form_in_the_place_of_the_minidump(piece: int, line_end: bytes) -> None:
    """As old Electrons on Linux send it."""
    parts = [
        annotation(b"prod", b"Electron"),
        annotation(b"ver", b"1.2"),
        dump(b"upload_file_minidump", MINIDUMP[:300]),
    ]
    inner = in_form(*parts, dump(b"log", b"some text"))
    inner = inner if line_end == b"\r\n" else inner.replace(b"\r\n", line_end)
    sent = body(annotation(b"a", b"1"), dump(b"upload_file_minidump", inner), annotation(b"b", b"2"), dump(b"e", b"x"))
    report, dumps = receive(sent, piece=piece)
    assert dumps == {"upload_file_minidump": MINIDUMP[:300], "log": b"some text", "e": b"x"}
    assert report.annotations == {"a": "1", "prod": "Electron", "ver": "1.2", "b": "2"}
    assert report.notes == []
    assert report.has_minidump


@for_each(
    "content",
    [
        b"--",
        b"--x",
        b"--x\r\n",
        b"--x\r\nContent-Type: text/plain\r\n\r\nMDMP\r\n--x--",
        b"--x\r\nContent-Disposition:",
        b"--" + b"x" * 300 + b"\r\nContent-Disposition: form-data; name=a\r\n\r\nMDMP",
        b"-" * 2000,
        in_form(annotation(b"a", b"text"), dump(b"upload_file_minidump", b"no minidump")),
        in_form(annotation(b"a", b"MD"), annotation(b"b", b"MP")),
        in_form(dump(b"upload_file_minidump", gzip.compress(b"MDMP"))),
        in_form(dump(b"upload_file_minidump", in_form(b"MDMP", boundary=b"another"))),
        in_form(*(annotation(b"a", b"x" * 1000) for _ in range(1100)), dump(b"upload_file_minidump")),
    ],
    ids=lambda content: content[:20].hex() + str(len(content)),
)
@for_each("piece", [1000, 65536])
def test_what_is_no_form_with_a_minidump_stays_as_it_is(content: bytes, piece: int) -> None:
    report, dumps = receive(body(annotation(b"a"), dump(b"upload_file_minidump", content)), piece=piece, limits=LARGE)
    assert dumps == {"upload_file_minidump": content}
    assert list(report.annotations) == ["a"]


def test_a_form_in_the_place_of_another_file_stays_as_it_is() -> None:
    _, dumps = receive(body(annotation(b"a"), dump(b"log", in_form(b"MDMP")), dump(b"upload_file_minidump")))
    assert dumps == {"log": in_form(b"MDMP"), "upload_file_minidump": b"MDMP"}


@for_each("piece", [10, 65536])
def test_an_inner_form_that_is_cut_off(piece: int) -> None:
    inner = in_form(annotation(b"prod", b"App"), dump(b"upload_file_minidump", MINIDUMP[:300]))[:400]
    report, dumps = receive(body(dump(b"upload_file_minidump", inner), dump(b"e", b"x")), piece=piece)
    assert dumps["e"] == b"x"
    assert MINIDUMP.startswith(dumps["upload_file_minidump"])
    assert "without its last boundary" in report.notes[0].text


@for_each("piece", [10, 100, 65536])
@for_each("outer", [[], [annotation(b"after%d" % number) for number in range(30)]])
def test_the_parts_of_an_inner_form_count(piece: int, outer: list[bytes]) -> None:
    """Of those that are too many the minidump is kept, and so it is if it is in a form itself."""
    limits = Limits(read=1_000_000, body=10_000_000, parts=3, annotations=1000)
    fields = [annotation(b"f%d" % number, b"x") for number in range(30)]
    inner = in_form(dump(b"first", b"MDMP"), *fields, dump(b"upload_file_minidump", MINIDUMP[:300]), *fields)
    report, dumps = receive(body(dump(b"upload_file_minidump", inner), *outer), piece=piece, limits=limits)
    assert "parts or more" in report.notes[0].text
    assert dumps == {"first": b"MDMP", "upload_file_minidump": MINIDUMP[:300]}
    assert list(report.annotations) == ["f0", "f1"]


def test_an_inner_form_that_is_too_large() -> None:
    with pytest.raises(TooLarge):
        receive(body(dump(b"upload_file_minidump", in_form(b"MDMP" + bytes(1_100_000)))), limits=SMALL)


# ——— a body that is nothing but a minidump ———


@for_each("piece", [1, 1000, 65536])
@for_each("content_type", [None, b"application/octet-stream", b"text/plain"])
def test_a_minidump_alone(piece: int, content_type: bytes | None) -> None:
    report, dumps = receive(MINIDUMP[:2000], piece=piece, content_type=content_type)
    assert dumps == {"upload_file_minidump": MINIDUMP[:2000]}
    assert (report.payload.structure, report.has_minidump) == ("dump", True)


@for_each("packer", list(PACKERS))
def test_it_may_be_packed(packer: str) -> None:
    _, dumps = receive(PACKERS[packer](MINIDUMP), content_type=None)
    assert dumps == {"upload_file_minidump": MINIDUMP}


def test_what_is_no_minidump_is_a_file() -> None:
    report, dumps = receive(b"MDM", content_type=None)
    assert (dumps, report.has_minidump) == ({"body": b"MDM"}, False)


def test_a_form_at_the_same_path() -> None:
    report, dumps = receive(body(annotation(b"a"), dump(b"d")))
    assert (report.payload.structure, dumps) == ("multipart", {"upload_file_minidump": b"MDMP"})


@for_each("piece", [10, 100])
def test_a_minidump_after_a_zip_file_that_is_passed_over(piece: int) -> None:
    limits = Limits(read=1_000_000, body=10_000_000, parts=2, annotations=1000)
    packed = zipped(("a.dmp", b"MDMP"), *((f"f{number}", b"x") for number in range(30)))
    sent = body(dump(b"packed", packed), dump(b"upload_file_minidump", MINIDUMP))
    _, dumps = receive(sent, piece=piece, limits=limits)
    assert dumps == {"packed": b"MDMP", "f0": b"x", "upload_file_minidump": MINIDUMP}
