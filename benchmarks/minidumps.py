"""
What it takes to read a minidump and make its fingerprint, in CPU time: ordinary dumps, and ones made to take long.

    chrt --rr 1 python -m benchmarks.minidumps [--seconds 1] [FILE.dmp …]
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.bodies import minidump
from collectord.fingerprints.minidumps import facts_in
from collectord.pieces import Pieces
from tests.support.hostileminidumps import HOSTILE

_ORDINARY_US = 50
_HOSTILE_US = 2000
_RECEIVED = 65_536
"""Bytes of the pieces in which a dump is received."""


def microseconds(data: bytes, seconds: float) -> float:
    """Of CPU time, for one reading; the least of as many as there are in that time: what disturbs only adds."""
    pieces = [data[at : at + _RECEIVED] for at in range(0, len(data), _RECEIVED)]
    least, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        facts_in(Pieces(pieces))
        least = min(least, time.perf_counter() - began)
    return least * 1e6


def ordinary() -> Mapping[str, bytes]:
    """The reports of the other benchmarks, by their size."""
    return {f"{size // 1000} kB": minidump(size) for size in (8_000, 400_000)}


def main(arguments: Sequence[str]) -> None:
    """Print a line for each dump."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each dump")
    parser.add_argument("files", nargs="*", type=Path, help="other minidumps")
    options = parser.parse_args(arguments)
    given = {path.name: path.read_bytes() for path in options.files}
    hostile = {name: write() for name, write in HOSTILE.items()}
    for bar, dumps in [(_ORDINARY_US, {**ordinary(), **given}), (_HOSTILE_US, hostile)]:
        for name, data in dumps.items():
            taken = microseconds(data, options.seconds)
            print(f"{name:24} {taken:7.1f} µs (bar: {bar}, {'kept' if taken <= bar else 'missed'})")


if __name__ == "__main__":
    main(sys.argv[1:])
