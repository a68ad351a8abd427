"""
What an upload costs that has stalled, and what it does to the others.

    python -m benchmarks.stalled [--uploads 5000] [--seconds 5] [--json FILE]
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import asdict, frozen

from benchmarks import procfs
from benchmarks.bodies import KIB, make_body, write_script
from benchmarks.disk import fresh_disk, leave_on_sigterm, warm_memory
from benchmarks.servers import SERVERS, BenchmarkError, Running, running
from benchmarks.uploads import StalledUploads
from benchmarks.wrk import Load, run_wrk

_BAR_KB = 45
_SENT_BYTES = 100 * KIB
_FINISHED = 20
_SETTINGS = "idle_timeout_s = 600.0"


@frozen
class Memory:
    """Of the daemon and its children, in KiB."""

    rss: int
    pss: int

    def __str__(self) -> str:
        return f"RSS {self.rss / KIB:.1f} MB, PSS {self.pss / KIB:.1f} MB"


@frozen(kw_only=True)
class Result:
    """
    @ivar finished: of the uploads that went on in the end, how many got their receipt.
    @ivar left: after all had hung up.
    """

    uploads: int
    opened_in_s: float
    before: Memory
    stalled: Memory
    beside: Memory
    left: Memory
    finished: int
    alone: Load
    with_stalled: Load

    def render(self) -> str:
        rss, pss = ((now - then) / self.uploads for now, then in zip(*self._now_and_then(), strict=True))
        worst = max(rss, pss)
        return "\n".join(
            (
                f"{self.uploads} uploads of 400 KB, stalled after 100 KB; opened in {self.opened_in_s:.1f} s",
                f"before                 {self.before}",
                f"stalled                {self.stalled}",
                f"and after fast client  {self.beside}",
                f"when all had hung up   {self.left}",
                f"each costs             RSS {rss:.1f} KB, PSS {pss:.1f} KB; bar: at most {_BAR_KB} "
                + ("[met]" if worst <= _BAR_KB else "[MISSED]"),
                f"{self.finished} of {_FINISHED} that went on got their receipt",
                "one client, 10 KB crashes:",
                f"  alone                {_latency(self.alone)}",
                f"  with the stalled     {_latency(self.with_stalled)}",
            )
        )

    def _now_and_then(self) -> tuple[tuple[int, int], tuple[int, int]]:
        now = (max(self.stalled.rss, self.beside.rss), max(self.stalled.pss, self.beside.pss))
        return now, (self.before.rss, self.before.pss)


def measure(up: Running, work: Path, *, uploads: int, seconds: float) -> Result:
    """
    The fast client alone, then the stalled uploads, then the fast client beside them.

    @raise BenchmarkError: an upload did not stay open, or a crash was not taken.
    """
    script = write_script(make_body("10k"), work)
    up.submit(make_body("400k"))
    alone = run_wrk(up.url, script, seconds=seconds, connections=1)
    before = _memory(up)
    with StalledUploads(up.port, make_body("400k"), count=uploads, sent=_SENT_BYTES) as slow:
        started = time.monotonic()
        slow.open()
        _wait_until_read(up)
        opened_in_s = time.monotonic() - started
        stalled = _memory(up)
        with_stalled = run_wrk(up.url, script, seconds=seconds, connections=1)
        beside = _memory(up)
        if ended := slow.ended():
            raise BenchmarkError(f"{len(ended)} of {uploads} uploads ended before their time: {ended[0]!r}")
        finished = slow.finish(_FINISHED)
    return Result(
        uploads=uploads,
        opened_in_s=opened_in_s,
        before=before,
        stalled=stalled,
        beside=beside,
        left=_memory(up),
        finished=finished,
        alone=alone,
        with_stalled=with_stalled,
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stalled", description=__doc__)
    parser.add_argument("--uploads", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of the fast client, alone and beside the stalled")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the loop file lies")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args(arguments)
    leave_on_sigterm()
    try:
        _allow_open_files(options.uploads + 200)
        warm_memory(2 * KIB**3)
        with (
            tempfile.TemporaryDirectory(prefix="stalled-", dir=options.scratch) as work,
            fresh_disk(options.scratch) as disk,
            running(SERVERS["collectord"], disk.root, Path(work), _SETTINGS) as up,
        ):
            result = measure(up, Path(work), uploads=options.uploads, seconds=options.seconds)
    except BenchmarkError as error:
        print(f"FAILED {error}")
        return 1
    print(f"Disk: {disk.filesystem}.\n\n{result.render()}")
    if options.json:
        options.json.write_text(json.dumps({"filesystem": disk.filesystem, **asdict(result)}, indent=1) + "\n")
    return 0 if result.finished == _FINISHED else 1


def _memory(up: Running) -> Memory:
    """Once the server is at rest."""
    procfs.wait_until_idle(up.pid)
    return Memory(procfs.memory_kib(up.pid), procfs.pss_kib(up.pid))


def _wait_until_read(up: Running) -> None:
    """What still lies in the kernel would not be in the figures."""
    procfs.wait_until_idle(up.pid)
    if unread := procfs.unread_bytes(up.port):
        raise BenchmarkError(f"the server is idle and has left {unread} bytes unread")


def _allow_open_files(count: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise BenchmarkError(f"{count} open files are needed, by the server too, and {hard} may be opened")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, hard), hard))


def _latency(load: Load) -> str:
    return f"p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms, {load.requests / load.seconds:.0f}/s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
