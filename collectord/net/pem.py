"""
Certificates in PEM files.
"""

import re
from pathlib import Path

from twisted.internet.ssl import Certificate

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def certificates_in(file: Path) -> list[Certificate]:
    """
    Read the certificates in a file, in their order; there may be none. This blocks.

    @raise OSError: the file can't be read.
    @raise OpenSSL.crypto.Error: what looks like a certificate is none.
    """
    return [Certificate.loadPEM(pem) for pem in _PEM.findall(file.read_bytes())]
