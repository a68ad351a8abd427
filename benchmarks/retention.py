"""
What retention does to intake: clients of a daemon while it removes 10,000 old crashes, and when it has removed them.

    python -m benchmarks.retention [--crashes 10000] [--rounds 5] [--seconds 5]

The clients send 10 KB crashes on a few connections. In each round the same daemon is measured twice, and its work for
the crashes that it removes is counted as well.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from attrs import frozen

from benchmarks import procfs
from benchmarks.bodies import make_body, write_script
from benchmarks.disk import fresh_disk, leave_on_sigterm, warm_memory
from benchmarks.servers import SERVERS, BenchmarkError, Running, running
from benchmarks.wrk import Load, run_wrk
from collectord.crashid import make_crash_id
from collectord.storage.filesystem.layout import place_at

_OLD = datetime(2016, 6, 22, 15, 19, 49, tzinfo=UTC)
_DUMP = b"MDMP" + bytes(9000)
_START_S = 60.0


@frozen(kw_only=True)
class Measured:
    """
    What clients saw, and what it cost.

    @ivar cpu_ms: of the daemon, for each crash that it kept.
    @ivar removed: how many old crashes were removed meanwhile.
    """

    load: Load
    cpu_ms: float
    removed: int

    def __str__(self) -> str:
        load = self.load
        return (
            f"{load.requests / load.seconds:6.0f} crashes/s, p50 {load.p50_ms:6.2f} ms, p99 {load.p99_ms:6.2f} ms, "
            f"{self.cpu_ms:.2f} ms CPU each; {self.removed} were removed"
        )


def fill(root: Path, count: int) -> None:
    """Put so many old crashes into a store, of which a daemon has run until now."""
    chance = random.Random(7)
    for _ in range(count):
        crash_id = make_crash_id(chance.randbytes(16), _OLD.date())
        place = place_at(str(root), crash_id, _OLD.isoformat())
        os.makedirs(place.name_dir, 0o700, exist_ok=True)
        Path(place.dump("upload_file_minidump")).write_bytes(_DUMP)
        raw_crash = {"uuid": crash_id, "submitted_timestamp": _OLD.isoformat(), "ProductName": "App", "metadata": {}}
        Path(place.raw_crash).write_text(json.dumps(raw_crash))
        os.utime(place.raw_crash, (_OLD.timestamp(), _OLD.timestamp()))
    (root / "retention.time").write_text(datetime.now(UTC).isoformat())


def left_in(root: Path) -> int:
    """How many old crashes there still are."""
    day = root / f"{_OLD:%Y%m%d}" / "name"
    return sum(name.endswith(".json") for _, _, names in os.walk(day) for name in names)


def measure(up: Running, script: Path, seconds: float) -> Measured:
    """Let clients send crashes for a while."""
    before, cpu_s = left_in(up.store), procfs.cpu_s(up.pid)
    load = run_wrk(up.url, script, seconds=seconds, connections=4)
    cpu_s = procfs.cpu_s(up.pid) - cpu_s
    return Measured(load=load, cpu_ms=cpu_s * 1000 / load.requests, removed=before - left_in(up.store))


def one_round(crashes: int, seconds: float, scratch: Path) -> tuple[Measured, Measured]:
    """
    Measure a daemon while it removes crashes, and afterwards.

    @raise BenchmarkError: it had removed all of them before the first half was over, or removes none.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as work, fresh_disk(scratch) as disk:
        script = write_script(make_body("10k"), Path(work))
        fill(disk.root, crashes)
        warm_memory()
        with running(SERVERS["collectord"], disk.root, Path(work), storage="keep_days = 30") as up:
            wait_for(lambda: left_in(disk.root) < crashes)
            removing = measure(up, script, seconds)
            if not left_in(disk.root):
                raise BenchmarkError("all crashes were removed too early: more of them are needed, or fewer seconds")
            wait_for(lambda: not left_in(disk.root))
            procfs.wait_until_idle(up.pid)
            return removing, measure(up, script, seconds)


def wait_for(is_so: Callable[[], bool]) -> None:
    """
    Wait until something is so.

    @raise BenchmarkError: it takes too long.
    """
    deadline = time.monotonic() + _START_S
    while not is_so():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"crashes were not removed within {_START_S:g} s")
        time.sleep(0.1)


def main(arguments: Sequence[str]) -> int:
    """Ratios of the medians of some rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crashes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each half of a round")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the loop files lie")
    options = parser.parse_args(arguments)
    leave_on_sigterm()
    rounds = []
    try:
        for number in range(options.rounds):
            rounds.append(one_round(options.crashes, options.seconds, options.scratch))
            for what, measured in zip(("while it removes", "afterwards      "), rounds[-1], strict=True):
                print(f"round {number + 1}, {what}: {measured}", flush=True)
    except BenchmarkError as error:
        print(f"FAILED {error}")
        return 1
    removing, after = zip(*rounds, strict=True)
    for what, figure in (
        ("crashes/s", lambda each: each.load.requests / each.load.seconds),
        ("p50", lambda each: each.load.p50_ms),
        ("p99", lambda each: each.load.p99_ms),
        ("CPU of a crash", lambda each: each.cpu_ms),
    ):
        print(f"{what}: {median(map(figure, removing)) / median(map(figure, after)):.2f} times what it is afterwards")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
