"""
The destination C{type = "s3"}: crashes in a bucket of Amazon's S3, or of another server that speaks its protocol.
"""

import ssl
from functools import partial
from secrets import token_hex
from typing import BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from collectord.errors import ConfigError
from collectord.plugins import PluginContext, PluginType
from collectord.storage.content import open_content
from collectord.storage.objects.attempts import ObjectBody
from collectord.storage.objects.bucket import BucketCrashStorage, Digests, Proceed, md5_of, read_through
from collectord.storage.objects.connections import NoAnswer, trusting
from collectord.storage.objects.keys import Item, probe
from collectord.storage.objects.refusals import RefusedByServer
from collectord.storage.objects.s3claims import of_whole
from collectord.storage.objects.s3client import S3Client, checksums_of
from collectord.storage.objects.s3parts import put_parts
from collectord.storage.objects.s3proof import Sha256Trust, compares_sha256, is_stored, prove
from collectord.storage.objects.s3settings import S3Settings
from collectord.storage.objects.s3uploads import Uploads
from collectord.storage.objects.watched import Watched


class S3Bucket:
    """
    A bucket of S3.

    It implements L{Bucket<collectord.storage.objects.bucket.Bucket>}.

    Each request has the SHA-256 of its body, and is signed with it, so that a server refuses a body that has changed on
    the way. What it says that it has stored is compared with it as well. Many servers know only the MD5, which takes
    longer to make than all else about a request. So that is sent, too, until the server has answered with a SHA-256,
    and has refused a wrong one.
    """

    errors: tuple[type[Exception], ...] = (NoAnswer, RefusedByServer, BotoCoreError, ClientError)
    refusals: tuple[type[Exception], ...] = (RefusedByServer,)

    def __init__(self, settings: S3Settings, tls: ssl.SSLContext | None) -> None:
        self.name = f"s3://{settings.bucket}"
        self.what = f"bucket {settings.bucket}"
        self._multipart_bytes = settings.multipart_bytes
        self._headers = settings.headers()
        self._client = S3Client(settings, tls)
        self._uploads = Uploads(self._client)
        self._trust = Sha256Trust(
            lambda: compares_sha256(self._client, probe(token_hex(8), settings.prefix), self._headers), self.errors
        )

    def put(self, item: Item, proceed: Proceed, *, again: bool) -> None:
        self._uploads.give_up_old()
        headers = {**self._headers, "content-type": item.content_type}
        with open_content(item.content) as file:
            if item.size > self._multipart_bytes:
                put_parts(self._client, self._uploads, item, file, headers, proceed, again=again)
                return
            md5 = md5_of(file, item) if again or not self._trust.is_earned else b""
            if not md5:
                read_through(file, item)
            digests = Digests(md5, bytes.fromhex(item.sha256))
            expected = of_whole(digests, partial(_md5_from_the_start, file, item))
            if again and is_stored(self._client, item, expected):
                return
            body = ObjectBody(Watched.of(item, file, proceed), item.size, item.sha256)
            try:
                answer = self._client.request("PUT", item.key, {}, headers | checksums_of(digests), body, proceed)
            except RefusedByServer as e:
                if not md5 and e.answer.status == 400:  # it may want an MD5, as some do where objects are locked
                    self._trust.lose()
                raise
            prove(self._client, item, answer, expected)
        self._trust.answered(with_sha256=answer.headers.has("x-amz-checksum-sha256"))

    def get(self, key: str) -> bytes | None:
        return self._client.get(key)

    def delete(self, key: str) -> None:
        self._client.request("DELETE", key)

    def describe_error(self, error: Exception) -> str:
        if isinstance(error, ClientError):
            code, message = (error.response.get("Error", {}).get(key, "") for key in ("Code", "Message"))
            return f"{error.operation_name}: {code} {message}"
        return str(error)

    def close(self) -> None:
        self._uploads.close()
        self._client.close()


def _md5_from_the_start(file: BinaryIO, item: Item) -> bytes:
    file.seek(0)
    return md5_of(file, item)


def make(settings: S3Settings, context: PluginContext) -> BucketCrashStorage:
    """
    Make a destination of C{type = "s3"}. It reads C{ca_file}, and connects to nothing yet.

    @raise ConfigError: C{ca_file} can't be read or has no certificate.
    """
    try:
        tls = trusting(settings.ca_file) if settings.ca_file else None
    except ValueError as e:
        raise ConfigError(f"ca_file = {str(settings.ca_file)!r}: {e}") from e
    return BucketCrashStorage(S3Bucket(settings, tls), settings, context.reactor.callFromThread)


S3 = PluginType(S3Settings, make)
"""The entry point C{s3} of collectord's own destinations (in C{setup.py}) names this."""
