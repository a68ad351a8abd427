"""
Whether this process may put the crashes of today in their places.
"""

import os
from datetime import UTC, datetime


def unwritable_today(root: str) -> str | None:
    """
    Return the first directory of the store at C{root} that this process may not write to; None: there is none.

    A directory that is not there yet is made with the first crash. The staging directory may well be writable while the
    directory of the day is not: one start as another user leaves that, or a backup that another user restored. This
    blocks.
    """
    day = f"{root}/{datetime.now(UTC):%Y%m%d}"
    for path in (root, day, f"{day}/name", f"{day}/date"):
        if not os.path.lexists(path):
            return None
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
            return path
    return None
