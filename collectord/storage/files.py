"""
What stores and journals both do with files: they sync them, and name some of them after the process that made them.
"""

import os
import secrets
import socket


def sync_and_close(fd: int) -> None:
    """
    Make the content of an open file durable; it is closed in any case. It blocks.

    @raise OSError: the content may not be durable.
    """
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def new_process_name() -> str:
    """Make a name for this process that no other one has, on any host: C{<host>-<pid>-<random>}."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def is_of_this_host(process_name: str) -> bool:
    """Tell whether the process with this name runs or ran on this host."""
    return process_name.rsplit("-", 2)[0] == socket.gethostname()
