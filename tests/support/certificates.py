"""
Certificates of any age, with their keys.
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificate(path: Path, *, days: float, age: float = 100.0) -> str:
    """
    Write a certificate and its key to C{path}.

    @param days: from now on that it is valid; negative: it has expired.
    @param age: days since it began to be.
    @return: the endpoint string of a port with it, without the port's number: C{ssl:%d:…}.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=age))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return f"ssl:%d:privateKey={path}:certKey={path}:interface=127.0.0.1"


@frozen
class Authority:
    """
    An authority, which signs certificates for C{localhost} and 127.0.0.1.

    @ivar file: its certificate.
    """

    file: Path
    _directory: Path
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, directory: Path, name: str = "authority") -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        file = directory / f"{name}.pem"
        file.write_bytes(_signed(name, name, key.public_key(), key, days=1.0).public_bytes(serialization.Encoding.PEM))
        return cls(file, directory, key)

    def sign(self, name: str = "localhost", *, days: float = 1.0) -> Path:
        """
        Write a certificate and its key to one file, and return the file.

        @param days: from now on that it is valid; negative: it has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        file = self._directory / f"{self.file.stem}-{name}-{days:g}.pem"
        signed = _signed(name, self.file.stem, key.public_key(), self._key, days=days, authority=False)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private + signed.public_bytes(pem))
        return file


def _signed(
    name: str,
    by: str,
    public: ec.EllipticCurvePublicKey,
    key: ec.EllipticCurvePrivateKey,
    *,
    days: float,
    authority: bool = True,
) -> x509.Certificate:
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name == "localhost":
        names.append(x509.IPAddress(ip_address("127.0.0.1")))
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
