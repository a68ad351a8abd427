"""
What one crash costs each server, and how many a second it takes.

    python -m benchmarks.throughput [--rounds 3] [--seconds 5] [--sizes 10k,…] [--servers collectord,…] [--json FILE]
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import asdict, frozen

from benchmarks import procfs
from benchmarks.bodies import SIZES, Body, make_body, write_script
from benchmarks.disk import fresh_disk, leave_on_sigterm, warm_memory
from benchmarks.report import Sample, render
from benchmarks.servers import SERVERS, BenchmarkError, Running, Server, running
from benchmarks.wrk import run_wrk

_FEW_CONNECTIONS = {("plain_klein", "5m"): 2}
"""Where a request takes so long that with many at once hardly any would end within the run."""

_COMPARED = ["collectord", "plain_klein", "nginx"]


@frozen(kw_only=True)
class Plan:
    """What to measure, and how long."""

    servers: Sequence[Server]
    sizes: Sequence[str]
    rounds: int
    seconds: float
    connections: int
    scratch: Path


def measure(up: Running, body: Body, script: Path, *, seconds: float, connections: int) -> Sample:
    """
    One run: a warm-up, then the load, and what it cost until the server was idle again.

    @raise BenchmarkError: an answer was no success, or what is kept is not what was acknowledged.
    """
    up.submit(body)
    run_wrk(up.url, script, seconds=min(1.0, seconds), connections=connections)
    _wait_until_idle(up)
    kept, cpu_s = up.kept(body), procfs.cpu_s(up.pid)
    procfs.reset_peak(up.pid)
    load = run_wrk(up.url, script, seconds=seconds, connections=connections)
    _wait_until_idle(up)
    cpu_s, kept = procfs.cpu_s(up.pid) - cpu_s, up.kept(body) - kept
    peak_mb = procfs.memory_kib(up.pid, "VmHWM") / 1024
    # wrk hangs up on what is in flight; of that the server may have kept some, but nothing more and nothing less.
    if not load.requests <= kept <= load.requests + connections:
        raise BenchmarkError(f"{up.server.name} acknowledged {load.requests} crashes and kept {kept}")
    return Sample(
        server=up.server.name,
        size=body.name,
        connections=connections,
        requests=load.requests,
        kept=kept,
        cpu_ms=cpu_s * 1000 / kept,
        per_s=load.requests / load.seconds,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        peak_mb=peak_mb,
    )


def run(plan: Plan, work: Path) -> tuple[list[Sample], list[str], str]:
    """All runs of the plan, server by server within a round; the samples, what went wrong, and the file system."""
    samples: list[Sample] = []
    failures: list[str] = []
    filesystem = ""
    for size in plan.sizes:
        body = make_body(size)
        script = write_script(body, work)
        warm_memory()
        for number in range(plan.rounds):
            for server in plan.servers:
                if body.is_compressed and not server.takes_gzip:
                    continue
                connections = min(plan.connections, _FEW_CONNECTIONS.get((server.name, size), plan.connections))
                with tempfile.TemporaryDirectory(dir=work) as logs, fresh_disk(plan.scratch) as disk:
                    filesystem = disk.filesystem
                    try:
                        with running(server, disk.root, Path(logs)) as up:
                            sample = measure(up, body, script, seconds=plan.seconds, connections=connections)
                    except BenchmarkError as error:
                        failures.append(f"{size}, round {number + 1}, {server.name}: {error}")
                        print(f"FAILED {failures[-1]}", flush=True)
                        continue
                samples.append(sample)
                print(f"{size}, round {number + 1}: {sample}", flush=True)
    return samples, failures, filesystem


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    leave_on_sigterm()
    plan = Plan(
        servers=[SERVERS[name] for name in options.servers],
        sizes=options.sizes,
        rounds=options.rounds,
        seconds=options.seconds,
        connections=options.connections,
        scratch=options.scratch,
    )
    with tempfile.TemporaryDirectory(prefix="throughput-", dir=plan.scratch) as work:
        samples, failures, filesystem = run(plan, Path(work))
    print(f"\nDisk: {filesystem}. Medians of {plan.rounds} rounds of {plan.seconds:g} s each.\n")
    print(render(samples))
    if options.json:
        options.json.write_text(json.dumps(_record(plan, samples, failures, filesystem), indent=1) + "\n")
    if failures:
        print(f"{len(failures)} runs FAILED and are not in the medians:", *failures, sep="\n")
    return 1 if failures else 0


def _record(plan: Plan, samples: Sequence[Sample], failures: Sequence[str], filesystem: str) -> Mapping[str, object]:
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "filesystem": filesystem,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "failures": list(failures),
        "samples": [asdict(sample) for sample in samples],
    }


def _wait_until_idle(up: Running) -> None:
    if not procfs.wait_until_idle(up.pid):
        raise BenchmarkError(f"{up.server.name} did not come to rest")


def _names(known: Mapping[str, object], text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run, in whole seconds")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--sizes", type=lambda text: _names(SIZES, text), default=list(SIZES))
    parser.add_argument("--servers", type=lambda text: _names(SERVERS, text), default=_COMPARED)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the loop files lie")
    parser.add_argument("--json", type=Path, help="write every run there")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
