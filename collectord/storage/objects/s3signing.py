"""
Signs requests to S3, by version 4 of Amazon's signatures.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from attrs import field, frozen

_ALGORITHM = "AWS4-HMAC-SHA256"


@frozen
class Credentials:
    """
    What requests are signed with.

    @ivar session_token: of credentials that are valid for a while only; else empty.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def signed(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    sha256: str,
    credentials: Credentials,
    region: str,
    now: datetime,
) -> Mapping[str, str]:
    """
    Return C{headers} together with the signature, and with those that it needs: the time, the checksum and the token.

    @param path: encoded, as it is sent.
    @param query: as L{collectord.storage.objects.encoding.query_of} makes it.
    @param headers: all that are to be signed, with C{host}; their names in small letters.
    @param sha256: the checksum of the body, in hex. A server that keeps to the protocol refuses any other body.
    @param now: in UTC.
    """
    at = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {**headers, "x-amz-content-sha256": sha256, "x-amz-date": at}
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token
    names = sorted(headers)
    lines = [f"{name}:{' '.join(headers[name].split())}" for name in names]
    request = "\n".join([method, path, query, *lines, "", ";".join(names), sha256])
    scope = f"{at[:8]}/{region}/s3/aws4_request"
    text = "\n".join([_ALGORITHM, at, scope, hashlib.sha256(request.encode()).hexdigest()])
    signature = hmac.digest(_key(credentials.secret_key, scope), text.encode(), "sha256").hex()
    credential = f"Credential={credentials.access_key}/{scope}"
    headers["authorization"] = f"{_ALGORITHM} {credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return headers


@lru_cache(maxsize=16)
def _key(secret_key: str, scope: str) -> bytes:
    """Return what all requests of a day and a region are signed with."""
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
