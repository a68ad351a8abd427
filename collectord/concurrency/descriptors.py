"""
The limit of open files (LimitNOFILE, ulimit -n): raised as far as it goes, and shared out among those who open many.
"""

import resource

_LEAST = 8
_UNLIMITED = 1 << 20


def open_files() -> int:
    """How many this process may have open; the soft limit is raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _UNLIMITED if hard == resource.RLIM_INFINITY else hard


def share(parts: int, most: int) -> int:
    """One part of so many, C{most} at most."""
    return max(_LEAST, min(most, open_files() // parts))
