"""
The limit of open files (LimitNOFILE, ulimit -n): raised as far as possible, and divided among those who open many.
"""

import resource

_LEAST = 8
_UNLIMITED = 1 << 20


def open_files() -> int:
    """Raise the limit of open files as far as this process may, and return it. It may be called on any thread."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _UNLIMITED if hard == resource.RLIM_INFINITY else hard


def share(parts: int, most: int) -> int:
    """
    How many files one of C{parts} users may have open, so that there are enough for all.

    @param most: that it needs. It gets at least 8, even where that is more than its part.
    """
    return max(_LEAST, min(most, open_files() // parts))
