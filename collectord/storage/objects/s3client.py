"""
Requests about the objects of one bucket in S3: addressed, signed, sent, and tried again while the server is busy.
"""

import os
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from attrs import frozen

from collectord.concurrency.lazily import Lazily
from collectord.storage.objects.attempts import NO_BODY, ObjectBody, fetched, persistently
from collectord.storage.objects.bucket import Digests, Proceed
from collectord.storage.objects.connections import Answer, Connections
from collectord.storage.objects.encoding import query_of, quoted
from collectord.storage.objects.s3account import Account, find_account
from collectord.storage.objects.s3settings import S3Settings
from collectord.storage.objects.s3signing import signed

_ELSEWHERE = frozenset({301, 302, 307, 400})
_HOST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Buckets that can be part of a host's name. With dots in it, the certificate of Amazon's servers would not fit."""


@frozen
class _Place:
    """
    Where the bucket is.

    @ivar path: what comes before the keys, with the slash.
    """

    account: Account
    region: str
    path: str
    connections: Connections


def checksums_of(digests: Digests) -> dict[str, str]:
    """The headers by which a server refuses a body that has other checksums."""
    md5 = {"content-md5": digests.base64_md5} if digests.md5 else {}
    return {**md5, "x-amz-checksum-sha256": digests.base64_sha256}


class S3Client:
    """
    A client of one bucket. Its methods block, and may be called from several threads at the same time.
    """

    def __init__(self, settings: S3Settings, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._tls = tls
        self._region = ""  # in which Amazon says that the bucket is, if that is not the one of the account
        self._place = Lazily(self._find)

    def request(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        body: ObjectBody = NO_BODY,
        proceed: Proceed = lambda: None,
    ) -> Answer:
        """
        Send a request L{persistently}, and return the answer.

        @param key: of the object; empty: the request is about the bucket.
        @param headers: their names in small letters.
        """
        return persistently(method, lambda: self._try(method, key, query, headers, body), proceed, self._is_elsewhere)

    def get(self, key: str) -> bytes | None:
        """Return what is in an object; None: there is no such object."""
        return fetched(lambda: self._try("GET", key, {}, {}, NO_BODY, whole=True), self._is_elsewhere)

    def close(self) -> None:
        """Close all connections."""
        self._place.drop(lambda place: place.connections.close())

    def _try(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: ObjectBody,
        *,
        whole: bool = False,
    ) -> Answer:
        place = self._place()
        path, encoded = place.path + quoted(key, safe="/"), query_of(query)
        headers = {**headers, "host": place.connections.host}
        credentials = place.account.credentials()
        headers = signed(method, path, encoded, headers, body.sha256, credentials, place.region, datetime.now(UTC))
        if method in ("PUT", "POST"):
            headers = {**headers, "content-length": str(body.size)}
        target = f"{path}?{encoded}" if encoded else path
        return place.connections.exchange(method, target, headers, body.again(), whole=whole)

    def _is_elsewhere(self, answer: Answer) -> bool:
        """Note the region that Amazon says the bucket is in, and tell whether the request is to be sent there."""
        region = answer.headers.get("x-amz-bucket-region", "")
        if self._endpoint() or answer.status not in _ELSEWHERE or not region:
            return False
        if region != self._place().region:
            self._region = region
            self.close()
        return True

    def _find(self) -> _Place:
        settings = self._settings
        account = find_account(settings)
        region = self._region or account.region
        url = urlsplit(self._endpoint() or _amazons(region))
        host, path = url.netloc, f"{url.path.rstrip('/')}/"
        if _is_in_host(settings, bool(self._endpoint())):
            host = f"{settings.bucket}.{host}"
        else:
            path += f"{quoted(settings.bucket)}/"
        connections = Connections(
            f"{url.scheme}://{host}",
            self._tls,
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
        )
        return _Place(account, region, path, connections)

    def _endpoint(self) -> str:
        return (
            self._settings.endpoint_url
            or os.environ.get("AWS_ENDPOINT_URL_S3", "")
            or os.environ.get("AWS_ENDPOINT_URL", "")
        )


def _amazons(region: str) -> str:
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _is_in_host(settings: S3Settings, has_endpoint: bool) -> bool:
    if settings.addressing_style == "auto":
        return not has_endpoint and _HOST_NAME.fullmatch(settings.bucket) is not None
    return settings.addressing_style == "virtual"
