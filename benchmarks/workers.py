"""
What a second worker brings, and what it costs: both cores are shared with the load.

    python -m benchmarks.workers [--rounds 5] [--seconds 4] [--size 10k] [--scratch DIR]
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bodies import SIZES, make_body, write_script
from benchmarks.disk import fresh_disk, leave_on_sigterm, warm_memory
from benchmarks.report import Sample
from benchmarks.servers import SERVERS, running
from benchmarks.throughput import measure

_SETTINGS = "[crashmover]\nenabled = false\n"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--size", choices=list(SIZES), default="10k")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the loop files lie")
    options = parser.parse_args(arguments)
    leave_on_sigterm()
    body = make_body(options.size)
    samples: dict[str, list[Sample]] = {"collectord": [], "two_workers": []}
    for number in range(options.rounds):
        for name, taken in samples.items():
            with tempfile.TemporaryDirectory(dir=options.scratch) as work, fresh_disk(options.scratch) as disk:
                script = write_script(body, Path(work))
                warm_memory()
                with running(SERVERS[name], disk.root, Path(work), _SETTINGS) as up:
                    taken.append(measure(up, body, script, seconds=options.seconds, connections=options.connections))
            last = taken[-1]
            print(f"round {number + 1}: {name} {last.per_s:.0f} crashes/s, {last.cpu_ms:.3f} ms CPU each", flush=True)
    one, two = (taken for taken in samples.values())
    speed = statistics.median(s.per_s for s in two) / statistics.median(s.per_s for s in one)
    cpu = statistics.median(s.cpu_ms for s in two) / statistics.median(s.cpu_ms for s in one)
    print(
        f"\n{options.size}: two workers take {speed:.2f} times as many crashes a second (bar: at least 1.3), "
        f"at {cpu:.2f} times the CPU each (bar: at most 1.1)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
