"""
What the crashmover costs: from one file system store to another on the same disk, beside C{cp -r} and C{sync}.

    python -m benchmarks.moving [--crashes 10000] [--rounds 3] [--size 400k] [--json FILE]
    python -m benchmarks.moving --crashes 40 --size 25m        its memory with big dumps
    python -m benchmarks.moving --collecting                   what collecting keeps of its speed meanwhile
    python -m benchmarks.moving --waiting 1000000              how long it takes to find the first of so many
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random

from attrs import asdict, frozen

from benchmarks import procfs
from benchmarks.bodies import make_body, write_script
from benchmarks.disk import fresh_disk, leave_on_sigterm, warm_memory
from benchmarks.servers import SERVERS, BenchmarkError, running
from benchmarks.wrk import run_wrk
from collectord.crashid import make_crash_id
from collectord.storage.filesystem.layout import Place, place_at

SIZES = {"10k": 10 * 1024, "400k": 400 * 1024, "25m": 25 * 1024**2}
_MOVE_S = 600.0


@frozen(kw_only=True)
class Moved:
    """One run."""

    crashes: int
    copy_s: float
    move_s: float
    cpu_ms: float
    peak_mb: float


def make_backlog(root: Path, crashes: int, size: int) -> None:
    """Crashes of the last minutes, a hundred a second, each with one dump; all on disk."""
    chance = Random(1)
    dump = chance.randbytes(size)
    checksum = sha256(dump).hexdigest()
    now = datetime.now(UTC)
    for number in range(crashes):
        when = now - timedelta(seconds=60 + number // 100)
        crash_id = make_crash_id(chance.randbytes(16), when.date())
        place = place_at(str(root), crash_id, when.isoformat())
        _link(place)
        os.makedirs(place.name_dir, exist_ok=True)
        Path(place.dump("upload_file_minidump")).write_bytes(dump)
        raw_crash = {
            "ProductName": "Fenix",
            "uuid": crash_id,
            "submitted_timestamp": when.isoformat(),
            "legacy_processing": 0,
            "metadata": {"dump_checksums": {"upload_file_minidump": checksum}},
        }
        Path(place.raw_crash).write_text(json.dumps(raw_crash))
    os.sync()


def _link(place: Place) -> None:
    os.makedirs(place.date_dir, exist_ok=True)
    os.symlink(place.link_target, place.link)


def copy(source: Path, destination: Path) -> float:
    """Seconds of the yardstick."""
    began = time.monotonic()
    subprocess.run(["cp", "-r", source, destination], check=True)
    subprocess.run(["sync", "-f", destination], check=True)
    return time.monotonic() - began


def move(
    backlog: Path, source: Path, destination: str, work: Path, options: argparse.Namespace
) -> tuple[float, float, float]:
    """
    Seconds, CPU seconds and peak MB of a daemon that finds the backlog in its store, and moves it.

    @param destination: its settings.
    """
    settings = (
        f"[crashmover]\ninterval_s = 0.2\nconcurrency = {options.concurrency}\n"
        f'[[crashmover.destination]]\n{destination}\n[logging]\nlevel = "info"\n'
    )
    with running(SERVERS["collectord"], source, work, settings) as up:
        cpu = procfs.cpu_s(up.pid)
        began = time.monotonic()
        for day in backlog.iterdir():
            day.rename(source / day.name)
        while _left(source):
            if time.monotonic() - began > _MOVE_S:
                raise BenchmarkError(f"{_left(source)} slots are not moved after {_MOVE_S} s")
            time.sleep(0.05)
        seconds = time.monotonic() - began
        cpu, peak = procfs.cpu_s(up.pid) - cpu, procfs.memory_kib(up.pid, "VmHWM") / 1024
    return seconds, cpu, peak


def _all_arrived(arrived: int, options: argparse.Namespace) -> None:
    if arrived != options.crashes:
        raise BenchmarkError(f"{arrived} of {options.crashes} arrived")


def _left(source: Path) -> int:
    """Slots that have new crashes."""
    return sum(1 for slot in source.glob("[0-9]*/date/*/*") if next(os.scandir(slot), None) is not None)


def measure_moves(options: argparse.Namespace) -> list[Moved]:
    runs = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.scratch) as work, fresh_disk(options.scratch) as disk:
            backlog = disk.root / "backlog"
            make_backlog(backlog, options.crashes, SIZES[options.size])
            warm_memory()
            copy_s = copy(backlog, disk.root / "copy")
            subprocess.run(["rm", "-r", disk.root / "copy"], check=True)
            os.sync()
            warm_memory()
            destination = disk.root / "destination"
            settings = f'type = "filesystem"\nroot = "{destination}"\nmin_free_bytes = 0'
            move_s, cpu_s, peak_mb = move(backlog, disk.root / "source", settings, Path(work), options)
            _all_arrived(len(list(destination.glob("[0-9]*/name/**/*.json"))), options)
        runs.append(
            Moved(
                crashes=options.crashes,
                copy_s=copy_s,
                move_s=move_s,
                cpu_ms=cpu_s * 1000 / options.crashes,
                peak_mb=peak_mb,
            )
        )
        print(f"round {number + 1}: {runs[-1]}", flush=True)
    return runs


def report_moves(runs: Sequence[Moved]) -> None:
    def middle(values: Sequence[float]) -> float:
        return statistics.median(values)

    per_s = middle([run.crashes / run.move_s for run in runs])
    ratio = middle([run.move_s / run.copy_s for run in runs])
    print(
        f"\nmoved: {per_s:.0f} crashes/s (bar: at least 500), "
        f"{middle([run.cpu_ms for run in runs]):.2f} ms CPU each, peak {middle([run.peak_mb for run in runs]):.0f} MB "
        f"(bar: at most 150)\n{ratio:.2f} times as long as cp -r and sync (bar: at most 2.5)"
    )


def measure_collecting(options: argparse.Namespace) -> None:
    body = make_body(options.size)
    speeds: dict[str, list[float]] = {"alone": [], "moving": []}
    for number in range(options.rounds):
        for name, speed in speeds.items():
            with tempfile.TemporaryDirectory(dir=options.scratch) as work, fresh_disk(options.scratch) as disk:
                script = write_script(body, Path(work))
                settings = "[crashmover]\nenabled = false\n"
                if name == "moving":
                    settings = (
                        "[crashmover]\n[[crashmover.destination]]\n"
                        f'type = "filesystem"\nroot = "{disk.root}/destination"\n'
                    )
                warm_memory()
                with running(SERVERS["collectord"], disk.root / "source", Path(work), settings) as up:
                    run_wrk(up.url, script, seconds=1, connections=16)
                    speed.append(run_wrk(up.url, script, seconds=5, connections=16).requests / 5)
            print(f"round {number + 1}: {name} {speed[-1]:.0f} crashes/s", flush=True)
    alone, moving = (statistics.median(speed) for speed in speeds.values())
    print(f"\nwhile it moves, collecting keeps {moving / alone:.0%} of its speed alone (bar: at least 70 %)")


def measure_waiting(options: argparse.Namespace) -> None:
    """Only links are made: nothing is loaded here."""
    from collectord.storage.filesystem.source import FilesystemCrashSource

    with fresh_disk(options.scratch) as disk:
        chance = Random(1)
        now = datetime.now(UTC)
        for number in range(options.waiting):
            when = now - timedelta(seconds=60 + number // 50)
            crash_id = make_crash_id(chance.randbytes(16), when.date())
            _link(place_at(str(disk.root), crash_id, when.isoformat()))
        source = FilesystemCrashSource(str(disk.root), None, None, lambda: now, 60.0, None, None)  # type: ignore[arg-type]
        for what in ("cold", "again"):
            began = time.perf_counter()
            first = next(source._walk())
            print(
                f"{options.waiting} wait; the first {len(first)} of them found in "
                f"{(time.perf_counter() - began) * 1000:.1f} ms ({what})"
            )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moving", description=__doc__)
    parser.add_argument("--crashes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=24)
    parser.add_argument("--size", choices=list(SIZES), default="400k")
    parser.add_argument("--collecting", action="store_true")
    parser.add_argument("--waiting", type=int, default=0)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the loop files lie")
    parser.add_argument("--json", type=Path, help="write every run there")
    options = parser.parse_args(arguments)
    leave_on_sigterm()
    if options.waiting:
        measure_waiting(options)
    elif options.collecting:
        measure_collecting(options)
    else:
        runs = measure_moves(options)
        report_moves(runs)
        if options.json:
            options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
