"""
The credentials of NATS: a key by which a client proves who it is, and a token (a JWT) that says what it may do.
"""

import binascii
import re
from base64 import b32decode, b32encode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from collectord.errors import ConfigError

_BLOCK = re.compile(r"-----+ ?BEGIN ([A-Z ]+?) ?-----+\s+(\S+)\s+-----+ ?END \1 ?-----+")
_SEED = re.compile(r"SU[A-Z2-7]{56}")
"""The seed of a user's key, in base 32."""
_USER = 20 << 3
"""The first byte of a user's public key."""


@frozen
class NatsCredentials:
    """
    The credentials of one user.

    @ivar jwt: the token; empty: the server knows the key of the user.
    """

    jwt: str = field(repr=False)
    _key: Ed25519PrivateKey = field(repr=False)

    def answer_to(self, nonce: str) -> Mapping[str, str]:
        """Return the fields of C{CONNECT} that prove who this is. C{nonce} is what the server asks to be signed."""
        signature = urlsafe_b64encode(self._key.sign(nonce.encode())).rstrip(b"=").decode()
        return {"sig": signature, **({"jwt": self.jwt} if self.jwt else {"nkey": self.public_key})}

    @property
    def public_key(self) -> str:
        """The public key, as NATS writes it: C{U…}."""
        raw = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        body = bytes([_USER]) + raw
        return b32encode(body + _checksum(body)).rstrip(b"=").decode()


def read_credentials(file: Path) -> NatsCredentials:
    """
    Read a file of credentials, as NATS' tools make it (C{.creds}), or one that holds a seed alone. This blocks.

    @raise ConfigError: it can't be used.
    """
    where = f"credentials_file = {str(file)!r}"
    try:
        text = file.read_text("ascii", errors="replace")
    except OSError as e:
        raise ConfigError(f"{where}: {e.strerror}") from e
    blocks = dict(_BLOCK.findall(text))
    seed = blocks.get("USER NKEY SEED", text.strip())
    if not _SEED.fullmatch(seed):
        raise ConfigError(f"{where}: there is no seed of a user in it (SU…)")
    raw = b32decode(seed + "=" * (-len(seed) % 8))
    if _checksum(raw[:-2]) != raw[-2:]:
        raise ConfigError(f"{where}: the seed in it is damaged")
    return NatsCredentials(blocks.get("NATS USER JWT", ""), Ed25519PrivateKey.from_private_bytes(raw[2:34]))


def _checksum(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")
