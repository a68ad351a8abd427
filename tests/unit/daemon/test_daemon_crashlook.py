"""
What the page of a crash says of it: of its dumps, and of what the collector itself noted.
"""

import hashlib
import json
from pathlib import Path

from collectord.daemon.crashlook import CrashLookUp
from collectord.daemon.dumpfiles import dump_file
from collectord.observe.crashpage import CrashPage
from collectord.storage.filesystem.layout import place_at
from tests.support.minidumps import MadeMinidump, MadeModule

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
RECEIVED = "2016-06-22T15:19:49.123456+00:00"


def look_up(root: Path) -> CrashPage:
    found = CrashLookUp(roots=[str(root)], moves=lambda store: False, destinations=list, events=lambda crash_id: [])
    page = found.crash(CRASH_ID)
    assert page is not None
    return page


def keep(root: Path, metadata: dict[str, object], **dumps: bytes) -> None:
    place = place_at(str(root), CRASH_ID, RECEIVED)
    Path(place.name_dir).mkdir(parents=True)
    for name, content in dumps.items():
        Path(place.dump(name)).write_bytes(content)
    raw_crash = {"uuid": CRASH_ID, "submitted_timestamp": RECEIVED, "metadata": metadata}
    Path(place.raw_crash).write_text(json.dumps(raw_crash))


def test_what_is_said_of_dumps_stands_with_the_dumps(tmp_path: Path) -> None:
    metadata = {
        "dumps": {"log": {"size": 4, "filename": "app.log", "content_type": "text/plain"}, "other": 7},
        "dump_checksums": {"log": hashlib.sha256(b"text").hexdigest()},
        "collector_notes": ["removed Email", "renamed a"],
        "sampled": {"seen": 8841, "kept": 187},
        "payload_size": 12,
        "odd": [1, {"a": "ü"}],
    }
    keep(tmp_path, metadata, log=b"text", other=b"\0\1\2", upload_file_minidump=MadeMinidump(threads=1).write())
    page = look_up(tmp_path)
    assert "metadata.dumps" not in page.facts
    assert page.facts["metadata.collector_notes"] == "removed Email\nrenamed a"
    assert page.facts["metadata.sampled"] == "seen 8841, kept 187"
    assert page.facts["metadata.payload_size"] == "12"
    assert page.facts["metadata.odd"] == '[1, {"a": "ü"}]'
    said = {dump.name: (dump.kind, dump.sent_as, dump.is_whole) for dump in page.dumps}
    assert said == {
        "log": ("text", "app.log, text/plain", True),
        "other": ("", "", None),
        "upload_file_minidump": ("minidump, 2 threads", "", None),
    }


def test_what_a_file_is(tmp_path: Path) -> None:
    module = MadeModule(0x1000, 0x1000, "/a")
    kinds = {
        MadeMinidump(modules=[module, MadeModule(0x3000, 16, "/b")]).write(): "minidump, 2 modules, 4 threads",
        MadeMinidump(modules=[module]).write()[:40]: "minidump that can't be read",
        b"MDMP": "minidump that can't be read",
        b"MDM": "text",
        b"\x1f\x8b\x08\0rest": "gzip",
        b"": "empty",
        ("x" * 4095 + "ü").encode(): "text",
        b"\xff\xfe\0": "",
    }
    for number, (content, kind) in enumerate(kinds.items()):
        path = tmp_path / f"{number}"
        path.write_bytes(content)
        assert dump_file("a", str(path), "").kind == kind


def test_a_file_that_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(b"as it was")
    expected = hashlib.sha256(b"as it was").hexdigest()
    assert dump_file("a", str(path), expected).is_whole is True
    path.write_bytes(b"as it is now")
    assert dump_file("a", str(path), expected).is_whole is False
    path.unlink()
    gone = dump_file("a", str(path), expected)
    assert (gone.size, gone.problem) == (None, "it can't be read: No such file or directory")
