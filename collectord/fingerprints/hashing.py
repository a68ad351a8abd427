"""
How a fingerprint is made of what is the same in all crashes of a bug.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

VERSION: Final = 1
"""
Of the algorithm. Fingerprints of different versions are never equal. It has to change with anything that changes the
fingerprint of any crash, also with the list of runtimes.
"""


def fingerprint(lines: Sequence[str]) -> str:
    """Return the fingerprint that stands for these lines of text."""
    text = "\n".join(lines)
    return f"{VERSION}:{sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"
