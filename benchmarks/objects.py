"""
What a crash costs that goes to S3, beside boto3, which puts the same objects with the same checksums.

    python -m benchmarks.objects [--crashes 1000] [--rounds 3] [--size 400k] [--server rclone,moto] [--json FILE]
    python -m benchmarks.objects --endpoint http://127.0.0.1:7480 --keys ACCESS,SECRET     a server that runs already

Both are destinations of the same daemon, and take turns. The servers are C{rclone serve s3} and moto, on loopback, with
their objects on a file system in memory.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex

from attrs import asdict, define, frozen

from benchmarks.boto3_way import installed
from benchmarks.disk import fresh_disk, leave_on_sigterm, warm_memory
from benchmarks.moving import SIZES, make_backlog, move
from benchmarks.servers import BenchmarkError
from tests.support.rcloneserver import RcloneServer
from tests.support.s3server import REGION, S3Server


@define
class _Given(S3Server):
    """A server that runs already. What is put there stays there."""

    address: str = ""

    def start(self) -> None:
        """Nothing."""

    @property
    def url(self) -> str:
        return self.address


_SERVERS: Mapping[str, Callable[[Path, Path], S3Server]] = {
    "rclone": lambda log, data: RcloneServer(log, data=data),
    "moto": lambda log, data: S3Server(log),
}
"""Made of the path of their log, and an empty directory in memory."""
_GIVEN = "given"
_WAYS = {"boto3": "boto3", "collectord": "s3"}
"""The types of the destinations."""
_MOST_CPU = 0.5
_LEAST_SPEED = 2.0


@frozen(kw_only=True)
class Run:
    """
    One backlog that one daemon has moved.

    @ivar cpu_ms: of the daemon, for each crash.
    """

    server: str
    way: str
    per_s: float
    cpu_ms: float
    peak_mb: float

    def __str__(self) -> str:
        return f"{self.way:10} {self.per_s:6.1f} crashes/s, {self.cpu_ms:5.2f} ms CPU each, peak {self.peak_mb:.0f} MB"


def server_of(name: str, log: Path, data: Path, options: argparse.Namespace) -> S3Server:
    """The server to measure, not started yet."""
    if name != _GIVEN:
        return _SERVERS[name](log, data)
    server = _Given(log, address=options.endpoint)
    server.access_key, server.secret_key = options.keys.split(",")
    return server


def measure(name: str, way: str, options: argparse.Namespace) -> Run:
    """Let a daemon move all crashes to a new server."""
    with (
        tempfile.TemporaryDirectory(dir=options.scratch) as directory,
        fresh_disk(options.scratch) as disk,
        tempfile.TemporaryDirectory(dir="/dev/shm") as data,
        server_of(name, Path(directory) / "server.log", Path(data), options) as server,
        installed(Path(directory)),
    ):
        backlog = disk.root / "backlog"
        make_backlog(backlog, options.crashes, SIZES[options.size])
        warm_memory()
        client = server.client()
        bucket = f"crashes-{token_hex(4)}"
        client.create_bucket(Bucket=bucket)
        settings = (
            f'type = "{_WAYS[way]}"\nbucket = "{bucket}"\nendpoint_url = "{server.url}"\nregion = "{REGION}"\n'
            f'access_key = "{server.access_key}"\nsecret_key = "{server.secret_key}"\n'
            f"threads = {options.threads}"
        )
        move_s, cpu_s, peak_mb = move(backlog, disk.root / "source", settings, Path(directory), options)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="v1/raw_crash/")
        arrived = sum(page["KeyCount"] for page in pages)
    if arrived != options.crashes:
        raise BenchmarkError(f"{arrived} of {options.crashes} arrived")
    return Run(
        server=name,
        way=way,
        per_s=options.crashes / move_s,
        cpu_ms=cpu_s * 1000 / options.crashes,
        peak_mb=peak_mb,
    )


def report(runs: Sequence[Run], server: str) -> str:
    """The ratios of the medians, and the bars."""
    middle = {
        (way, what): statistics.median(getattr(run, what) for run in runs if (run.server, run.way) == (server, way))
        for way in _WAYS
        for what in ("cpu_ms", "per_s")
    }
    cpu, speed = middle["collectord", "cpu_ms"], middle["collectord", "per_s"]
    return (
        f"{server}: {cpu:.2f} ms CPU a crash, {cpu / middle['boto3', 'cpu_ms']:.2f} times boto3 "
        f"(bar: at most {_MOST_CPU}); {speed:.0f} crashes/s, {speed / middle['boto3', 'per_s']:.2f} times "
        f"(bar: at least {_LEAST_SPEED:g})"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objects", description=__doc__)
    parser.add_argument("--crashes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=24)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--size", choices=list(SIZES), default="400k")
    parser.add_argument("--server", default="rclone,moto")
    parser.add_argument("--endpoint", default="", help="of a server that runs already, to be measured instead")
    parser.add_argument("--keys", default="", help="ACCESS,SECRET for it")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the loop files lie")
    parser.add_argument("--json", type=Path, help="write every run there")
    options = parser.parse_args(arguments)
    leave_on_sigterm()
    runs = []
    names = [_GIVEN] if options.endpoint else options.server.split(",")
    for name in names:
        for number in range(options.rounds):
            for way in _WAYS:
                runs.append(measure(name, way, options))
                print(f"round {number + 1}, {name}: {runs[-1]}", flush=True)
    print()
    for name in names:
        print(report(runs, name))
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
