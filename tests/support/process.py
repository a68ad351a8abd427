"""
What the kernel says of a process.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

KIB = 1024


def peak_memory(pid: int) -> int:
    """The most bytes of memory that it ever had, resident."""
    return _status(pid, "VmHWM")


def memory(pid: int) -> int:
    """The bytes of memory that it has, resident."""
    return _status(pid, "VmRSS")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def workers(pid: int) -> Sequence[tuple[str, int]]:
    """The worker processes of a daemon: what each does, and its id."""
    found = []
    for child in children(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended by now
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if b"collectord.daemon.workers.worker" in words:  # before it is executed it looks like its parent
                found.append((words[4].decode(), child))
    return found


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith(f"{name}:"))
