"""
The TLS of connections to queues: which certificates to trust and to show, and what is wrong with one, in words.
"""

import ssl
from pathlib import Path
from typing import Any, Self

from OpenSSL import SSL, crypto
from pydantic import model_validator
from service_identity import VerificationError
from twisted.internet.ssl import (
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)

from collectord.errors import ConfigError
from collectord.net.pem import certificates_in
from collectord.net.twisted_private import say_why_certificates_are_refused
from collectord.plugins import PluginSettings

_UNKNOWN = "an authority has signed it that is not trusted; ca_file names what is"
_REASONS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed, and not trusted; ca_file names what is",
    19: _UNKNOWN,
    20: _UNKNOWN,
    21: _UNKNOWN,
    23: "it is revoked",
    24: "its authority may sign no certificates",
}
"""What OpenSSL's numbers say of a certificate (C{X509_V_ERR_…})."""
_HINTS = {
    "wrong version number": "this port speaks no TLS",
    "record layer failure": "this port speaks no TLS",
    "packet length too long": "this port speaks no TLS",
    "certificate required": "the server wants to see a certificate: cert_file",
    "handshake failure": "the server may want to see a certificate: cert_file",
    "unknown ca": "the server does not trust cert_file",
    "bad certificate": "the server refuses cert_file",
    "eof occurred": "the server ends the connection; it may want to see a certificate, or refuse it",
    "certificate expired": "the server says that cert_file has expired",
}
"""What some errors of OpenSSL mean here."""


class TlsSettings(PluginSettings):
    """
    The settings of a publisher whose connections may use TLS.

    @ivar ca_file: a PEM file of certificates to trust instead of the system's.
    @ivar cert_file: a PEM file of the certificate to show to the server, and those between it and its authority.
    @ivar key_file: a PEM file of the private key of C{cert_file}; if it is missing, the key is in C{cert_file}.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def sets_up_tls(self) -> bool:
        """Whether any of the files is set."""
        return bool(self.ca_file or self.cert_file or self.key_file)

    @model_validator(mode="after")
    def _has_a_certificate_for_the_key(self) -> Self:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file")
        return self


def refuse_unusable_files(settings: TlsSettings) -> None:
    """
    Read the files that are set. This blocks.

    @raise ConfigError: one can't be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.ca_file is not None:
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError as e:  # ssl.SSLError is one
            raise ConfigError(f"ca_file = {str(settings.ca_file)!r}: {_why_unusable(e)}") from e
    if settings.cert_file is not None:
        try:
            # Without a password OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
        except OSError as e:
            files = f"cert_file = {str(settings.cert_file)!r}"
            files += f", key_file = {str(settings.key_file)!r}" if settings.key_file else ""
            raise ConfigError(f"{files}: {_why_unusable(e)}") from e


def _why_unusable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").lower().replace("_", " ")
        return f"no PEM file of what belongs there ({reason or error})"
    return error.strerror or str(error)


def client_options(settings: TlsSettings, host: str) -> Any:
    """
    Return Twisted's options for a TLS connection to C{host}, whose certificate is verified. This reads files.

    L{tls_error_in_words} says of a failed connection why its certificate was refused.

    @raise ConfigError: a file can't be used, or C{host} can't be the name of a host.
    """
    refuse_unusable_files(settings)
    trust = platformTrust()
    if settings.ca_file is not None:
        trust = trustRootFromCertificates(certificates_in(settings.ca_file))
    own, extra = None, {}
    if settings.cert_file is not None:
        certificate, *chain = certificates_in(settings.cert_file)
        key = KeyPair.load((settings.key_file or settings.cert_file).read_bytes(), crypto.FILETYPE_PEM)
        own = PrivateCertificate.fromCertificateAndKeyPair(certificate, key)
        extra = {"extraCertChain": [each.original for each in chain]}
    try:
        options = optionsForClientTLS(host, trust, own, extraCertificateOptions=extra)
    except ValueError as e:
        raise ConfigError(f"{host!r} can't be a host's name: {e}") from e
    say_why_certificates_are_refused(options, CertificateRefused)
    return options


class CertificateRefused(Exception):
    """The certificate of a server is refused. @param number: OpenSSL's number of the reason."""

    def __init__(self, number: int) -> None:
        super().__init__(_REASONS.get(number) or f"OpenSSL's error {number}")


TLS_ERRORS = (CertificateRefused, VerificationError, SSL.Error)
"""What a TLS connection of Twisted's that fails ends with."""


def tls_error_in_words(error: BaseException | None) -> str:
    """Say what is wrong if C{error} is one of TLS: of Twisted, or of Python's C{ssl}; empty: it is none."""
    while error is not None:
        if isinstance(error, CertificateRefused):
            return f"its certificate is refused: {error}"
        if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code not in (62, 64):
            return f"its certificate is refused: {_REASONS.get(error.verify_code) or error.verify_message}"
        if isinstance(error, VerificationError | ssl.SSLCertVerificationError):
            return "its certificate is for another host"
        if isinstance(error, SSL.Error | ssl.SSLError):
            return f"TLS fails: {_reason_of(error)}"
        error = error.__cause__ or error.__context__
    return ""


def _reason_of(error: SSL.Error | ssl.SSLError) -> str:
    """Return OpenSSL's words, with what they mean to an operator where that is not plain."""
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error).partition(" (_ssl.c")[0]).lower().replace("_", " ")
    else:
        last = error.args[0] if error.args else None
        reason = str(last[-1][-1]) if isinstance(last, list) and last else repr(error)
    hint = next((hint for part, hint in _HINTS.items() if part in reason), "")
    return f"{reason} ({hint})" if hint else reason
