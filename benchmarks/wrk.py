"""
One run of wrk, and what it says.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from benchmarks.servers import BenchmarkError


@frozen(kw_only=True)
class Load:
    """
    What the clients saw.

    @ivar requests: answers that came whole; wrk drops what is in flight at its end.
    @ivar errors: how many failed, by kind; C{status} is what is no success.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: Mapping[str, int]


def run_wrk(url: str, script: Path, *, seconds: float, connections: int) -> Load:
    """
    Send what C{script} says, over and over.

    @param script: from L{benchmarks.bodies.write_script}.
    @raise BenchmarkError: a request failed, or none came through.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchmarkError("there is no wrk here")
    duration = f"-d{max(1, round(seconds))}s"
    command = [wrk, "-t1", f"-c{connections}", duration, "--timeout", "60s", "-s", str(script), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in output.splitlines():
        if line.startswith("RESULT "):
            load = Load(**json.loads(line.removeprefix("RESULT ")))
            break
    else:
        raise BenchmarkError(f"wrk gave no result:\n{output}")
    if any(load.errors.values()) or not load.requests:
        raise BenchmarkError(f"{load.requests} requests came through, and these failed: {load.errors}")
    return load
