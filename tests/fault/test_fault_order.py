"""
The order of system calls on the way of one crash: nothing is renamed before it is synced, and nothing is answered
before its directories are.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.http import post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.wait import until

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(shutil.which("strace") is None, reason="no strace"),
]

_CALLS = "fsync,syncfs,rename,link,symlink,sendto"


@pytest.mark.parametrize("sync", ["files", "filesystem"])
@pytest.mark.parametrize("memory", [64 * 2**20, 0], ids=["in memory", "spilled"])
def test_synced_before_it_is_renamed_and_before_it_is_answered(tmp_path: Path, memory: int, sync: str) -> None:
    port = free_port()
    trace = tmp_path / "trace"
    root = tmp_path / "root"
    toml = config(port, root, submission=f"memory_bytes = {memory}", storage=f'sync = "{sync}"')
    with Daemon(toml, port, tmp_path / "work") as daemon:
        strace = subprocess.Popen(
            ["strace", "-f", "-y", "-s", "200", "-e", f"trace={_CALLS}", "-o", str(trace), "-p", str(daemon.pid)],
            stderr=subprocess.PIPE,
        )
        try:
            assert strace.stderr is not None
            if b"attached" not in strace.stderr.readline():
                pytest.skip("strace may not attach here")
            crash_id = crash_id_in(post(port, make_report("order", 100_000, 100).body(), HEADERS))
            until(lambda: "CrashID=" in trace.read_text())
        finally:
            strace.terminate()
            strace.communicate()
    calls = trace.read_text().splitlines()

    def at(pattern: str) -> list[int]:
        return [n for n, call in enumerate(calls) if re.search(pattern, call)]

    (answered,) = at(rf"sendto\(.*CrashID=bp-{crash_id}")
    # What was spilled gets a hard link, the rest is renamed.
    renames = at(rf'(rename|link)\("[^"]*staging/[^"]*", "[^"]*/name/[^"]*{crash_id}[^"]*"\)')
    assert len(renames) == 3
    assert len([n for n in renames if " link(" in calls[n]]) == (0 if memory else 1)
    assert f"{crash_id}.json" in calls[renames[-1]]
    (linked,) = at(rf"symlink\(.*{crash_id}.* = 0$")
    assert linked < renames[-1] < answered
    if sync == "files":
        for n in renames:
            staged = calls[n].split('"')[1]
            assert any(synced < linked for synced in at(rf"fsync\(\d+<{re.escape(staged)}>")), staged
        day = next(root.glob("2*"))
        leaf = next(day.glob(f"name/*/*/{crash_id}.json")).parent
        slot = next(day.glob(f"date/*/*/{crash_id}")).parent
        wanted = {leaf, slot}
        for directory in (leaf, slot):
            wanted |= {parent for parent in directory.parents if parent == root or root in parent.parents}
        for directory in wanted:
            assert any(renames[-1] < n < answered for n in at(rf"fsync\(\d+<{re.escape(str(directory))}>\)")), directory
    else:
        syncs = at(r"syncfs\(")
        assert any(n < linked for n in syncs)
        assert any(renames[-1] < n < answered for n in syncs)
