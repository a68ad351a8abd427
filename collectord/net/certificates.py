"""
Until when the certificates are valid that ports are served with.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509

_TLS = "tls:"


@frozen
class Validity:
    """
    Of the certificates of one port; where there are several, from the last that begins to the first that ends.

    @ivar listen: the port, as the settings have it.
    @ivar begins: in seconds since the epoch; C{ends} likewise.
    """

    listen: str
    begins: float
    ends: float


def validity_of(listen: str, contexts: Any) -> Validity | None:
    """
    Of the certificates that a port is served with; it blocks.

    @param contexts: of an C{ssl} endpoint; None: it is another.
    @return: None: it has none.
    """
    if getattr(contexts, "certificate", None) is not None:
        found = [each.to_cryptography() for each in (contexts.certificate, *(contexts.extraCertChain or ()))]
    elif listen.startswith(_TLS):
        found = list(_in_directory(Path(listen.removeprefix(_TLS).partition(":")[0])))
    else:
        return None
    begins = [each.not_valid_before_utc.timestamp() for each in found]
    ends = [each.not_valid_after_utc.timestamp() for each in found]
    return Validity(listen, max(begins), min(ends)) if found else None


def _in_directory(path: Path) -> Iterator[x509.Certificate]:
    for file in sorted(path.glob("*.pem")):
        try:
            yield from x509.load_pem_x509_certificates(file.read_bytes())
        except (OSError, ValueError):
            continue  # a key alone; what can't be used, the endpoint says
