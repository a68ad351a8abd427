"""
How texts stand in the URLs of objects, at S3 and at Azure.
"""

from collections.abc import Mapping
from urllib.parse import quote


def quoted(text: str, safe: str = "") -> str:
    """Encode C{text} for a URL in the only way that the signatures of S3 allow."""
    return quote(text, safe=f"-_.~{safe}")


def query_of(parameters: Mapping[str, str]) -> str:
    """The query of a URL in the order and encoding that the signatures of S3 ask for, without the question mark."""
    return "&".join(f"{quoted(name)}={quoted(value)}" for name, value in sorted(parameters.items()))
