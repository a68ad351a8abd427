"""
Requests about the blobs of one container at Azure: addressed, authorized, sent, and tried again while it is busy.
"""

import ssl
from collections.abc import Mapping
from email.utils import formatdate
from urllib.parse import urlsplit

from collectord.concurrency.lazily import Lazily
from collectord.storage.objects.attempts import NO_BODY, ObjectBody, fetched, persistently
from collectord.storage.objects.azuresettings import AzureSettings
from collectord.storage.objects.azuresigning import Authorize, Request
from collectord.storage.objects.bucket import Proceed
from collectord.storage.objects.connections import Answer, Connections
from collectord.storage.objects.encoding import query_of, quoted

_VERSION = "2021-12-02"
"""Of the protocol."""


class AzureClient:
    """
    A client of one container. Its methods block, and may be called from several threads at the same time.
    """

    def __init__(self, settings: AzureSettings, authorize: Authorize, tls: ssl.SSLContext | None) -> None:
        url = urlsplit(settings.endpoint_url or f"https://{settings.account}.blob.core.windows.net")
        self._path = f"{url.path.rstrip('/')}/{settings.container}/"
        self._authorize = authorize
        self._sas_token = settings.sas_token
        self._connections = Lazily(
            lambda: Connections(
                f"{url.scheme}://{url.netloc}",
                tls,
                connect_timeout=settings.connect_timeout_s,
                read_timeout=settings.read_timeout_s,
            )
        )

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

        @param headers: their names in small letters.
        """
        return persistently(method, lambda: self._try(method, key, query, headers, body), proceed)

    def get(self, key: str) -> bytes | None:
        """Return what is in an object; None: there is no such object."""
        return fetched(lambda: self._try("GET", key, {}, {}, NO_BODY, whole=True))

    def close(self) -> None:
        """Close all connections."""
        self._connections.drop(lambda connections: connections.close())

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
        connections = self._connections()
        path = self._path + quoted(key, safe="/")
        headers = {**headers, "x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
        if method == "PUT":
            headers["content-length"] = str(body.size)
        headers |= self._authorize(Request(method, path, query, headers))
        target = "&".join(filter(None, [query_of(query), self._sas_token]))
        return connections.exchange(
            method,
            f"{path}?{target}" if target else path,
            {**headers, "host": connections.host},
            body.again(),
            whole=whole,
        )
