"""
A destination as it was before collectord signed its own requests: boto3 puts each object, with the same checksums.

C{benchmarks.objects} compares collectord with it. It is a plugin, which L{installed} makes known to a daemon.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from collectord.plugins import PluginContext, PluginType
from collectord.storage.content import open_content
from collectord.storage.objects.bucket import BucketCrashStorage, Digests, Mismatch, Proceed, md5_of
from collectord.storage.objects.keys import Item
from collectord.storage.objects.s3settings import S3Settings

_ATTEMPTS = 3
_ENTRY_POINT = "[collectord.destinations]\nboto3 = benchmarks.boto3_way:BOTO3\n"


class Boto3Bucket:
    """
    A bucket of S3.

    It implements L{Bucket<collectord.storage.objects.bucket.Bucket>}.
    """

    errors: tuple[type[Exception], ...] = (ClientError, BotoCoreError)
    refusals: tuple[type[Exception], ...] = (ClientError,)

    def __init__(self, settings: S3Settings) -> None:
        self.name = f"boto3://{settings.bucket}"
        self.what = f"bucket {settings.bucket}"
        self._bucket = settings.bucket
        self._client = boto3.session.Session().client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            config=Config(
                max_pool_connections=settings.threads,
                retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
                request_checksum_calculation="when_required",
            ),
        )

    def put(self, item: Item, proceed: Proceed, *, again: bool) -> None:
        with open_content(item.content) as file:
            digests = Digests(md5_of(file, item), bytes.fromhex(item.sha256))
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=item.key,
                Body=file,
                ContentType=item.content_type,
                ContentMD5=digests.base64_md5,
                ChecksumSHA256=digests.base64_sha256,
            )
        if answer["ETag"].strip('"') != digests.md5.hex():
            raise Mismatch(f"was stored with the ETag {answer['ETag']}; it should be {digests.md5.hex()}")

    def get(self, key: str) -> bytes | None:
        raise NotImplementedError

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=key)

    def describe_error(self, error: Exception) -> str:
        return str(error)

    def close(self) -> None:
        self._client.close()


def _make(settings: S3Settings, context: PluginContext) -> BucketCrashStorage:
    return BucketCrashStorage(Boto3Bucket(settings), settings, context.reactor.callFromThread)


BOTO3 = PluginType(S3Settings, _make)


@contextmanager
def installed(work: Path) -> Iterator[None]:
    """Let the daemons that are started meanwhile find the plugin, by the metadata of a package in C{work}."""
    metadata = work / "boto3_way-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: boto3-way\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINT)
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(work), before]))
    try:
        yield
    finally:
        os.environ["PYTHONPATH"] = before
