"""
What the kernel says of a process.
"""

from pathlib import Path

KIB = 1024


def peak_memory(pid: int) -> int:
    """The most bytes of memory that it ever had, resident."""
    return _status(pid, "VmHWM")


def memory(pid: int) -> int:
    """The bytes of memory that it has, resident."""
    return _status(pid, "VmRSS")


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith(f"{name}:"))
