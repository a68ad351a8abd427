"""
What the page of a crash says of it: of its dumps, and of what the collector itself noted.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import evolve

from collectord.daemon.crashlook import CrashLookUp
from collectord.daemon.dumpfiles import dump_file
from collectord.errors import LookUpFailed
from collectord.observe.crashpage import LEFT, CrashPage, JournalEntry
from collectord.stepdetails import read_details
from collectord.storage.filesystem.layout import place_at
from tests.support.minidumps import MadeMinidump, MadeModule

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
RECEIVED = "2016-06-22T15:19:49.123456+00:00"


def look_up(root: Path) -> CrashPage:
    page = looking(root).crash(CRASH_ID, {})
    assert page is not None
    return page


def looking(root: Path, events: Sequence[JournalEntry] = (), there: Sequence[str] = ()) -> CrashLookUp:
    return CrashLookUp(
        roots=[str(root)],
        moves=lambda store: False,
        destinations=lambda: there,
        events=lambda crash_id: events,
        keep_s=86400,
    )


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


KEPT = JournalEntry(
    at=1.0,
    what="kept",
    where="/one",
    rule="all",
    product="App",
    version="1",
    size=5,
    fingerprint="1:a",
    crash_place="app.dll 0x1",
    exception="SIGSEGV",
    cpu="amd64",
    os="Linux",
    uptime_s=7,
    details=read_details("took=4 sampled=9/2 dumps=upload_file_minidump:7510:minidump,log:10:text/plain,other:3:"),
)


def test_what_the_ledger_says_of_a_crash_that_is_gone(tmp_path: Path) -> None:
    events = [JournalEntry(at=3.0, what="removed", where="/one"), KEPT]
    page = looking(tmp_path, events).crash(CRASH_ID, {})
    assert page is not None
    assert page.facts == {
        "ProductName": "App",
        "Version": "1",
        "payload_size": "5",
        "throttle_rule": "all",
        "sampled": "seen 9, kept 2",
        "fingerprint": "1:a",
        "crash_place": "app.dll 0x1",
        "exception_name": "SIGSEGV",
        "cpu": "amd64",
        "os": "Linux",
        "uptime_s": "7",
    }
    dumps = {dump.name: (dump.size, dump.kind, dump.sent_as) for dump in page.dumps}
    assert dumps == {
        "upload_file_minidump": (7510, "minidump, by its name or first bytes", ""),
        "log": (10, "", "text/plain"),
        "other": (3, "", ""),
    }
    assert [event.at for event in page.events] == [1.0, 3.0]
    assert page.told_until == 3.0 + 86400
    assert page.not_asked == ""


def test_of_a_crash_that_was_erased_only_that_is_told(tmp_path: Path) -> None:
    events = [KEPT, JournalEntry(at=9.0, what="erased", where="s3://a", place="a/v1")]
    page = looking(tmp_path, events).crash(CRASH_ID, {})
    assert page is not None
    assert (page.facts, page.dumps, page.places) == ({}, [], [])
    assert page.events == [
        JournalEntry(at=1.0, what="kept", where="/one"),
        JournalEntry(at=9.0, what="erased", where="s3://a"),
    ]


def test_a_destination_that_was_looked_at_does_not_have_it_any_more(tmp_path: Path) -> None:
    there, s3 = str(tmp_path / "there"), "s3://a/v1"
    events = [KEPT, *(JournalEntry(at=2.0, what="moved", where=where) for where in (there, s3))]
    page = looking(tmp_path / "here", events, [there]).crash(CRASH_ID, {})
    assert page is not None
    assert [(place.store, place.state) for place in page.places] == [(there, LEFT), (s3, "was moved there")]


def test_a_store_that_is_away_is_not_asked_and_may_have_it(tmp_path: Path) -> None:
    keep(tmp_path, {})
    away = {str(tmp_path): "it hangs"}
    with pytest.raises(LookUpFailed, match=f"^{tmp_path}: it hangs$"):
        looking(tmp_path).crash(CRASH_ID, away)
    page = looking(tmp_path, [KEPT]).crash(CRASH_ID, away)
    assert page is not None
    assert (page.annotations, page.not_asked) == (None, f"{tmp_path}: it hangs")
    assert looking(tmp_path).dump(CRASH_ID, "upload_file_minidump", away) is None


def test_a_ledger_that_can_t_be_read(tmp_path: Path) -> None:
    def events(crash_id: str) -> Sequence[JournalEntry]:
        raise OSError(5, "Input/output error")

    broken = evolve(looking(tmp_path), events=events)
    with pytest.raises(LookUpFailed, match="the ledger: "):
        broken.crash(CRASH_ID, {})
    keep(tmp_path, {})
    page = broken.crash(CRASH_ID, {})
    assert page is not None
    assert page.annotations == {}


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
