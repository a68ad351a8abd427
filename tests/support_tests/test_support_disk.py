"""
The layout's reader, on trees made by hand.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.disk import problems, stored_crashes

CRASH = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
OTHER = "8f63aaaa-57c6-4e5d-b2cf-cabde2160622"
DUMPS = {"upload_file_minidump": b"MDMP", "extra_2": b"more"}


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)


def put(root: Path, crash_id: str) -> None:
    """Store a sound crash."""
    place = root / "20160622" / "name" / "8f" / "63"
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in DUMPS.items()}
    raw_crash = {"uuid": crash_id, "ProductName": "Fenix", "metadata": {"dump_checksums": sums}}
    write(place / f"{crash_id}.json", json.dumps(raw_crash).encode())
    write(place / f"{crash_id}.dump", DUMPS["upload_file_minidump"])
    write(place / f"{crash_id}.extra_2.dump", DUMPS["extra_2"])
    slot = root / "20160622" / "date" / "15" / "19_49"
    slot.mkdir(parents=True, exist_ok=True)
    (slot / crash_id).symlink_to("../../../name/8f/63")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, CRASH)
    put(tmp_path, OTHER)
    write(tmp_path / "staging" / "1" / "lock", b"")
    return tmp_path


def test_sound(root: Path) -> None:
    assert problems(root) == []
    crashes = stored_crashes(root)
    assert crashes.keys() == {CRASH, OTHER}
    assert crashes[CRASH].raw_crash["ProductName"] == "Fenix"
    assert crashes[CRASH].dumps == DUMPS


def test_empty(tmp_path: Path) -> None:
    assert problems(tmp_path) == []
    assert stored_crashes(tmp_path / "absent") == {}


def relink(root: Path, target: str) -> None:
    link = root / "20160622" / "date" / "15" / "19_49" / CRASH
    link.unlink()
    link.symlink_to(target)


NAME = Path("20160622/name/8f/63")
DATE = Path("20160622/date/15/19_49")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda root: (root / NAME / f"{CRASH}.json").unlink(), "dump extra_2 without its raw crash"),
        (lambda root: (root / NAME / f"{CRASH}.json").write_text("{"), "the raw crash is not a JSON object"),
        (lambda root: (root / NAME / f"{CRASH}.json").write_text("{}"), "says uuid None"),
        (lambda root: (root / NAME / f"{CRASH}.dump").write_bytes(b"MDM"), "dump_checksums say"),
        (lambda root: (root / NAME / f"{CRASH}.extra_2.dump").unlink(), "dump_checksums say"),
        (lambda root: write(root / NAME / f"{CRASH}.new.dump", b""), "dump_checksums say"),
        (lambda root: write(root / NAME / f"{CRASH}.json.tmp", b""), "not a file of a crash"),
        (lambda root: write(root / "20160622/name/8f/64" / f"{CRASH}.dump", b""), "lies in 20160622/name/8f/64"),
        (lambda root: (root / DATE / CRASH).unlink(), "no symlink in the date branch"),
        (lambda root: relink(root, "../../../name/8f/64"), "where its crash is not"),
        (lambda root: relink(root, str(root / NAME)), "points to the absolute"),
        (lambda root: write(root / DATE / "notes", b""), "not a symlink"),
        (lambda root: (root / NAME / f"{CRASH}.dump").chmod(0o640), "mode 640"),
        (lambda root: write(root / "staging" / "1" / "dump", b""), "staging/1/dump: left in staging"),
        (lambda root: os.symlink("/", root / "staging" / "lock"), "staging/lock: left in staging"),
    ],
)
def test_problem(root: Path, spoil: Callable[[Path], object], expected: str) -> None:
    spoil(root)
    assert any(expected in problem for problem in problems(root))
