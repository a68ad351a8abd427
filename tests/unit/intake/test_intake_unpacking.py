import gzip
import io
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


@for_each("packer", ["gzip", "zip"])
def test_a_minidump_that_is_damaged(packer: str) -> None:
    packed = bytearray(PACKERS[packer](b"MDMP" + b"".join(b"%d " % n for n in range(50_000))))
    packed[90_000:90_100] = bytes(100)
    report, dumps = receive(body(dump(b"d", bytes(packed)), dump(b"e", b"x")), limits=SMALL)
    assert dumps["upload_file_minidump"].startswith(b"MDMP0 1 2 3 ")
    assert dumps["e"] == b"x"
    assert "damaged" in report.notes[0].text


@for_each("packer", ["gzip", "zstd", "zip"])
@for_each("count", [1, 4])
def test_a_bomb(packer: str, count: int) -> None:
    bomb = PACKERS[packer](b"MDMP" + bytes(1_200_000 // count))
    with pytest.raises(TooLarge):
        receive(body(*(dump(b"d%d" % n, bomb) for n in range(count))), limits=SMALL)


def test_decoders_take_memory_one_after_the_other() -> None:
    reserved: list[int] = []
    parser = UnpackingParser(FormDataParser(BOUNDARY), 10_000_000, reserved.append)
    packed = dump(b"d", zstandard(b"MDMP" + bytes(300_000)))
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
