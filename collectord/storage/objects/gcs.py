"""
The destination C{type = "gcs"}: crashes in a bucket of Google Cloud Storage.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Blob, Client
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from google_crc32c import Checksum
from pydantic import Field
from requests import RequestException

from collectord.concurrency.lazily import Lazily
from collectord.plugins import PluginContext, PluginType
from collectord.storage.content import open_content
from collectord.storage.objects.bucket import (
    BucketCrashStorage,
    BucketSettings,
    Mismatch,
    Proceed,
    read_through,
)
from collectord.storage.objects.gcsanswers import in_words, says_no_object, watched_client
from collectord.storage.objects.gcsuploads import ResumableUploads
from collectord.storage.objects.keys import Item
from collectord.storage.objects.refusals import RefusedByServer
from collectord.storage.objects.watched import Watched

_WHOLE = 8 * 1024 * 1024
"""Larger objects are sent in chunks."""
_SECRET = re.compile(r"(upload_id=)[^&\s]*")


class GcsSettings(BucketSettings):
    """
    The settings of a destination of C{type = "gcs"}.

    Credentials come by the usual chain of Google's clients. If the environment has C{STORAGE_EMULATOR_HOST}, that
    server is used, and no credentials are needed.

    @ivar retry_s: seconds for which a request that failed is tried again.
    """

    retry_s: float = Field(default=10.0, ge=0)


class GcsBucket:
    """
    A bucket of Google Cloud Storage.

    It implements L{Bucket<collectord.storage.objects.bucket.Bucket>}.
    """

    errors: tuple[type[Exception], ...] = (
        GoogleAPIError,
        GoogleAuthError,
        DataCorruption,
        InvalidResponse,
        RequestException,
        RefusedByServer,
    )
    refusals: tuple[type[Exception], ...] = (GoogleAPICallError, RefusedByServer)

    def __init__(self, settings: GcsSettings) -> None:
        self.name = f"gs://{settings.bucket}"
        self.what = f"bucket {settings.bucket}"
        self._settings = settings
        self._client = Lazily(lambda: watched_client(Client(project=None)))
        self._timeout = (settings.connect_timeout_s, settings.read_timeout_s)
        self._retry = DEFAULT_RETRY.with_timeout(settings.retry_s)
        self._uploads = ResumableUploads(self._timeout, self._retry)

    def put(self, item: Item, proceed: Proceed, *, again: bool) -> None:
        md5, crc32c = hashlib.md5(usedforsecurity=False), Checksum()
        with open_content(item.content) as file:
            read_through(file, item, md5.update, crc32c.update)
            expected = {kind: b64encode(each.digest()).decode() for kind, each in (("MD5", md5), ("CRC32C", crc32c))}
            blob = self._blob(item.key)
            if again and self._is_stored(blob, expected):
                return
            blob.md5_hash = expected["MD5"]  # the server refuses content with another checksum
            stored = self._upload(item, blob, Watched.of(item, file, proceed))
        for kind, found in stored.items():
            if found != expected[kind]:
                raise Mismatch(f"was stored with the {kind} {found}; it should be {expected[kind]}")

    def _upload(self, item: Item, blob: Blob, file: Watched) -> Mapping[str, str | None]:
        """Upload an object, and return the checksums that the server says it has."""
        if item.size > _WHOLE:
            begin = partial(
                blob.create_resumable_upload_session,
                item.content_type,
                item.size,
                timeout=self._timeout,
                checksum=None,
                retry=self._retry,
            )
            found = self._uploads.send(item, file, begin)
            return {"MD5": found.get("md5Hash"), "CRC32C": found.get("crc32c")}
        blob.upload_from_file(
            file,
            size=item.size,
            content_type=item.content_type,
            checksum="crc32c",
            timeout=self._timeout,
            retry=self._retry,
        )
        return _checksums_of(blob)

    def _is_stored(self, blob: Blob, expected: Mapping[str, str]) -> bool:
        """Tell whether an object is surely there, as it should be, without an error if it is not."""
        with suppress(*self.errors):
            blob.reload(timeout=self._timeout, retry=self._retry)
            return _checksums_of(blob) == expected
        return False

    def get(self, key: str) -> bytes | None:
        try:
            content: bytes = self._blob(key).download_as_bytes(timeout=self._timeout, retry=self._retry)
        except NotFound as e:
            if not says_no_object(e):
                raise
            return None
        return content

    def delete(self, key: str) -> None:
        self._blob(key).delete(timeout=self._timeout, retry=self._retry)

    def describe_error(self, error: Exception) -> str:
        return _SECRET.sub(r"\1…", in_words(error, *self._timeout))

    def close(self) -> None:
        self._uploads.close()
        self._client.drop(lambda client: client.close())

    def _blob(self, key: str) -> Blob:
        return self._client().bucket(self._settings.bucket).blob(key)


def _checksums_of(blob: Blob) -> dict[str, str | None]:
    return {"MD5": blob.md5_hash, "CRC32C": blob.crc32c}


def make(settings: GcsSettings, context: PluginContext) -> BucketCrashStorage:
    """Make a destination of C{type = "gcs"}. It connects to nothing yet."""
    return BucketCrashStorage(GcsBucket(settings), settings, context.reactor.callFromThread)


GCS = PluginType(GcsSettings, make)
"""The entry point C{gcs} of collectord's own destinations (in C{setup.py}) names this."""
