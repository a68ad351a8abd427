"""
How long the certificates of listening ports are valid.
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
    When the certificates of one port are valid, all of them at the same time.

    @ivar listen: the endpoint string of the port, as in the settings.
    @ivar begins: seconds since the epoch.
    @ivar ends: seconds since the epoch.
    """

    listen: str
    begins: float
    ends: float


def validity_of(listen: str, contexts: Any) -> Validity | None:
    """
    When the certificates of a port are valid. It reads files, so it is for a thread.

    @param listen: the endpoint string of the port.
    @param contexts: the TLS context factory of an C{ssl} endpoint; None for any other.
    @return: None where the port has no certificates.
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
            continue  # a key alone, for example. The endpoint itself complains about files that it can't use.
