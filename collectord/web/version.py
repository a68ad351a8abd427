"""
What runs here.
"""

import sys

import twisted
from collectord import __version__


def version() -> dict[str, str]:
    """For C{/__version__}."""
    return {
        "source": "collectord",
        "version": __version__,
        "commit": "",
        "build": "",
        "python": ".".join(map(str, sys.version_info[:3])),
        "twisted": twisted.__version__,
    }
