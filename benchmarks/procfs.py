"""
What a process and its children cost, read from C{/proc}.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """C{pid} and all its living descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(children).split():
            yield from family(int(child))


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of the family so far: all threads, and the children that have ended."""
    return sum(map(cpu_s_alone, family(pid)))


def cpu_s_alone(pid: int) -> float:
    """The same of one process, without the children that live."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def memory_kib(pid: int, key: str = "VmRSS") -> int:
    """The sum over the family of a line of C{/proc/PID/status}: C{VmRSS} now, C{VmHWM} at its peak."""
    return sum(_kib(Path(f"/proc/{member}/status"), key) for member in family(pid))


def pss_kib(pid: int) -> int:
    """The family's resident memory, with every shared page counted once among those who share it."""
    return sum(_kib(Path(f"/proc/{member}/smaps_rollup"), "Pss") for member in family(pid))


def reset_peak(pid: int) -> None:
    """Let C{VmHWM} start anew from what is resident now."""
    for member in family(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")


def wait_until_idle(pid: int, at_most_s: float = 30.0, window_s: float = 0.3) -> bool:
    """Wait until the family uses next to no CPU; whether it came to that."""
    deadline = time.monotonic() + at_most_s
    before = cpu_s(pid)
    while time.monotonic() < deadline:
        time.sleep(window_s)
        now = cpu_s(pid)
        if now - before < 0.05 * window_s:
            return True
        before = now
    return False


def unread_bytes(port: int) -> int:
    """What lies in the kernel, received on the local TCP (IPv4) C{port} and not yet read by its owner."""
    unread = 0
    for line in _read(Path("/proc/net/tcp")).splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port and fields[3] == "01":
            unread += int(fields[4].partition(":")[2], 16)
    return unread


def _kib(path: Path, key: str) -> int:
    for line in _read(path).splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return 0


def _read(path: Path) -> str:
    """Its text, or none where the process is gone."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
