"""
The destination C{type = "s3"}: crashes in a bucket of Amazon's S3, or of another server that speaks its protocol.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import Field, field_validator, model_validator

from collectord.concurrency.lazily import Lazily
from collectord.plugins import PluginContext, PluginType
from collectord.settings.urls import http_parts, without_quoting_input
from collectord.storage.content import open_content
from collectord.storage.objects.bucket import (
    BucketCrashStorage,
    BucketSettings,
    Digests,
    Mismatch,
    Proceed,
    as_received,
    pieces,
    read_through,
)
from collectord.storage.objects.keys import Item

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MIB = 1024 * 1024
_PART = 8 * _MIB
"""The least size of a part, which is in memory while it is sent."""
_PARTS = 10_000
"""The most parts that S3 allows for one object."""
_ATTEMPTS = 3
"""How often boto3 tries each request."""


class S3Settings(BucketSettings):
    """
    The settings of a destination of C{type = "s3"}.

    @ivar endpoint_url: the address of a server that is not Amazon's.
    @ivar access_key: if it is empty, credentials come by the usual chain of environment, profile and role.
    @ivar multipart_bytes: an object that is larger is sent in parts.
    """

    endpoint_url: str = ""
    region: str = ""
    access_key: str = Field(default="", repr=False)
    secret_key: str = Field(default="", repr=False)
    server_side_encryption: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = ""
    sse_kms_key_id: str = ""
    multipart_bytes: int = Field(default=16 * _MIB, ge=5 * _MIB, le=5 * 1024 * _MIB)

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input("must be http://host[:port], or https, and nothing else"):
            parts = http_parts(url) if url else urlsplit(url)
            if parts.username is not None or parts.query or parts.fragment:  # boto3's errors would show them
                raise ValueError("it has a user, a query or a fragment")
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if bool(self.access_key) != bool(self.secret_key):
            raise ValueError("set both access_key and secret_key, or neither")
        if self.sse_kms_key_id and not self.server_side_encryption.startswith("aws:kms"):
            raise ValueError("sse_kms_key_id needs server_side_encryption = 'aws:kms'")
        return self


class S3Bucket:
    """
    A bucket of S3.

    It implements L{Bucket<collectord.storage.objects.bucket.Bucket>}.
    """

    errors: tuple[type[Exception], ...] = (ClientError, BotoCoreError)

    def __init__(self, settings: S3Settings) -> None:
        self.name = f"s3://{settings.bucket}"
        self._settings = settings
        self._client = Lazily(self._make_client)
        encryption = {"ServerSideEncryption": settings.server_side_encryption, "SSEKMSKeyId": settings.sse_kms_key_id}
        self._encryption: Any = {key: value for key, value in encryption.items() if value}

    def put(self, item: Item, proceed: Proceed) -> None:
        with open_content(item.content) as file:
            if item.size > self._settings.multipart_bytes:
                self._put_parts(item, file, proceed)
            else:
                self._put_whole(item, file)

    def delete(self, key: str) -> None:
        self._client().delete_object(Bucket=self._settings.bucket, Key=key)

    def describe_error(self, error: Exception) -> str:
        if isinstance(error, ClientError):
            code, message = (error.response.get("Error", {}).get(key, "") for key in ("Code", "Message"))
            return f"{code} {message}"
        return str(error)

    def close(self) -> None:
        self._client.drop(lambda client: client.close())

    def _make_client(self) -> "S3Client":
        settings = self._settings
        config = Config(
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            max_pool_connections=settings.threads,
            retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
            # We send checksums of our own. Those of boto3 would be HTTP trailers, which servers other than Amazon's
            # do not understand.
            request_checksum_calculation="when_required",
        )
        client: S3Client = Session().client(
            "s3",
            endpoint_url=settings.endpoint_url or None,
            region_name=settings.region or None,
            aws_access_key_id=settings.access_key or None,
            aws_secret_access_key=settings.secret_key or None,
            config=config,
        )
        return client

    def _put_whole(self, item: Item, file: BinaryIO) -> None:
        digests = read_through(file, item)
        answer = self._client().put_object(
            Bucket=self._settings.bucket,
            Key=item.key,
            Body=file,
            ContentType=item.content_type,
            ContentMD5=digests.base64_md5,
            ChecksumSHA256=digests.base64_sha256,
            **self._encryption,
        )
        _verify(answer, digests)

    def _put_parts(self, item: Item, file: BinaryIO, proceed: Proceed) -> None:
        sha256, etags = hashlib.sha256(), b""
        parts: list[Any] = []
        with self._upload(item) as upload:
            for number, piece in enumerate(pieces(file, max(_PART, -(-item.size // _PARTS))), 1):
                proceed()
                sha256.update(piece)
                digests = Digests(hashlib.md5(piece, usedforsecurity=False).digest(), hashlib.sha256(piece).digest())
                answer = self._client().upload_part(
                    **upload,
                    PartNumber=number,
                    Body=piece,
                    ContentMD5=digests.base64_md5,
                    ChecksumSHA256=digests.base64_sha256,
                )
                _verify(answer, digests)
                etags += digests.md5
                checksum = {"ChecksumSHA256": answer["ChecksumSHA256"]} if "ChecksumSHA256" in answer else {}
                parts.append({"PartNumber": number, "ETag": answer["ETag"], **checksum})
            as_received(item, sha256.hexdigest())
            proceed()
            done = self._client().complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        etag = f"{hashlib.md5(etags, usedforsecurity=False).hexdigest()}-{len(parts)}"
        if not _is_kms(done) and done.get("ETag", "").strip('"') not in ("", etag):  # Ceph answers without one
            raise Mismatch(f"was stored with the ETag {done['ETag']}; it should be {etag}")

    @contextmanager
    def _upload(self, item: Item) -> Iterator[Any]:
        """Begin a multipart upload. If the body of the C{with} raises, it is aborted, since stored parts cost money."""
        made = self._client().create_multipart_upload(
            Bucket=self._settings.bucket,
            Key=item.key,
            ContentType=item.content_type,
            ChecksumAlgorithm="SHA256",
            **self._encryption,
        )
        upload: Any = {"Bucket": self._settings.bucket, "Key": item.key, "UploadId": made["UploadId"]}
        try:
            yield upload
        except BaseException:
            with suppress(*self.errors):
                self._client().abort_multipart_upload(**upload)
            raise


def _verify(answer: Any, digests: Digests) -> None:
    """
    Compare the checksums in the server's answer with those of what was sent.

    @raise Mismatch: they differ.
    """
    checksum, etag = answer.get("ChecksumSHA256"), answer.get("ETag", "").strip('"')
    if checksum not in (None, digests.base64_sha256):
        raise Mismatch(f"was stored with the SHA-256 {checksum}; it should be {digests.base64_sha256}")
    if etag != digests.md5.hex() and not _is_kms(answer):
        raise Mismatch(f"was stored with the ETag {etag}; it should be {digests.md5.hex()}")


def _is_kms(answer: Any) -> bool:
    """Tell whether the object is encrypted with KMS, by request or by the bucket's default: its ETag is then no MD5."""
    return str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")


def make(settings: S3Settings, context: PluginContext) -> BucketCrashStorage:
    """Make a destination of C{type = "s3"}. It connects to nothing yet."""
    return BucketCrashStorage(S3Bucket(settings), settings, context.reactor.callFromThread)


S3 = PluginType(S3Settings, make)
"""The entry point C{s3} of collectord's own destinations (in C{setup.py}) names this."""
