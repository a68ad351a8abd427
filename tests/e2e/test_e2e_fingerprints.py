"""
What a daemon writes of a crash into its metadata: of a minidump in memory, of one that was spilled, of annotations.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from collectord.fingerprints.minidumps import facts_in
from collectord.pieces import Pieces
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.http import Part, multipart, post
from tests.support.minidumps import MadeMinidump, MadeModule
from tests.support.reports import BOUNDARY, HEADERS, crash_id_in
from tests.support.wait import until

pytestmark = pytest.mark.e2e

APP = MadeModule(0x10_0000, 0x5000, "app", bytes(range(1, 17)))
FACTS = {"fingerprint", "crash_place", "cpu", "exception_code", "exception_name", "module", "module_offset", "os"}
IN_MEMORY, SPILLED = "", "memory_bytes = 0"


@pytest.fixture(scope="module", params=[IN_MEMORY, SPILLED], ids=["in_memory", "spilled"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workdir, port = tmp_path_factory.mktemp("fingerprints"), free_port()
    with Daemon(config(port, workdir / "root", submission=request.param), port, workdir) as daemon:
        yield daemon
    assert problems(workdir / "root") == []
    assert "Traceback" not in daemon.log()


def minidump(offset: int, memory: int = 200_000) -> bytes:
    stack = [APP.base + 0x1235, APP.base + 0x2341]
    return MadeMinidump(modules=[APP], instruction=APP.base + offset, stack=stack, memory=memory).write()


def metadata_of(daemon: Daemon, *parts: Part) -> Mapping[str, Any]:
    """Of the crash with these parts."""
    crash_id = crash_id_in(post(daemon.port, multipart(parts, BOUNDARY), HEADERS))
    metadata = stored_crashes(daemon.workdir / "root")[crash_id].raw_crash["metadata"]
    assert isinstance(metadata, dict)
    return metadata


def file(name: str, content: bytes) -> Part:
    return Part(name, content, f"{name}.dmp", "application/octet-stream")


def test_of_a_minidump(daemon: Daemon) -> None:
    data = minidump(0x123)
    metadata = metadata_of(daemon, Part("n", b"1"), file("upload_file_minidump", data), file("log", b"x" * 100_000))
    facts = facts_in(Pieces([data]))
    assert metadata["fingerprint"] == facts.fingerprint
    assert metadata["crash_place"] == facts.place == "amd64 0xb app 0403020106050807090A0B0C0D0E0F100 0x123"
    assert metadata.keys() >= {*FACTS, "uptime_s"}


def test_the_minidump_counts_that_is_called_so(daemon: Daemon) -> None:
    first, named = minidump(0x200), minidump(0x300)
    both = metadata_of(daemon, file("browser", first), file("upload_file_minidump", named))
    one = metadata_of(daemon, file("log", b"x" * 100_000), file("browser", first), file("other", named))
    assert (both["module_offset"], one["module_offset"]) == ("0x300", "0x200")


def test_of_annotations(daemon: Daemon) -> None:
    broken = file("upload_file_minidump", b"MDMP" + bytes(100_000))
    for parts in ([], [broken]):
        metadata = metadata_of(daemon, Part("MozCrashReason", f"index 5 of {len(parts)}".encode()), *parts)
        assert metadata["crash_place"] == "reason index # of #"
        assert metadata["fingerprint"].startswith("1:")
        assert not (FACTS - {"fingerprint", "crash_place"}) & metadata.keys()


def test_nothing_is_known(daemon: Daemon) -> None:
    metadata = metadata_of(daemon, Part("ProductName", b"App"), file("upload_file_minidump", b"MDMP" + bytes(100_000)))
    assert not FACTS & metadata.keys()


def test_it_can_be_switched_off_and_has_nothing_that_is_removed(tmp_path: Path) -> None:
    port, root = free_port(), tmp_path / "root"
    removing = config(port, root, submission="remove_annotations = ['MozCrashReason']")
    with Daemon(removing, port, tmp_path) as daemon:
        assert not FACTS & metadata_of(daemon, Part("n", b"1"), Part("MozCrashReason", b"a")).keys()
        daemon.toml_path.write_text(config(port, root, submission="fingerprint = false"))
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "the settings were read again" in daemon.log())
        assert not FACTS & metadata_of(daemon, file("upload_file_minidump", minidump(1))).keys()
