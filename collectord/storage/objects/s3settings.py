"""
The settings of a destination of C{type = "s3"}.
"""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from collectord.settings.awskeys import refuse_half_a_user
from collectord.settings.urls import bare_http_parts, without_quoting_input
from collectord.storage.objects.bucket import BucketSettings

_MIB = 1024 * 1024


class S3Settings(BucketSettings):
    """
    The settings of a destination of C{type = "s3"}.

    @ivar endpoint_url: the address of a server that is not Amazon's.
    @ivar addressing_style: whether the bucket is in the path or in the name of the host. C{auto}: in the name at
        Amazon's servers, in the path at others.
    @ivar ca_file: a PEM file of certificates to trust instead of the system's.
    @ivar access_key: if it is empty, credentials come by the usual chain of environment, profile and role.
    @ivar session_token: belongs to credentials that are valid for a while only.
    @ivar profile: of the files in C{~/.aws}, where the chain begins.
    @ivar role_arn: a role to assume, with the credentials of the keys above, or of the chain.
    @ivar acl: a canned ACL for each object; empty: none is sent.
    @ivar storage_class: of each object; empty: that of the bucket.
    @ivar multipart_bytes: an object that is larger is sent in parts.
    """

    endpoint_url: str = ""
    region: str = ""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    ca_file: Path | None = None
    access_key: str = Field(default="", repr=False, pattern="^[!-~]*$")
    secret_key: str = Field(default="", repr=False, pattern="^[!-~]*$")
    session_token: str = Field(default="", repr=False, pattern="^[!-~]*$")
    profile: str = ""
    role_arn: str = Field(default="", pattern=r"^(arn:[!-~]+:role/[!-~]+)?$")
    server_side_encryption: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = ""
    sse_kms_key_id: str = Field(default="", pattern="^[!-~]*$")
    acl: Literal[
        "",
        "private",
        "public-read",
        "public-read-write",
        "authenticated-read",
        "aws-exec-read",
        "bucket-owner-read",
        "bucket-owner-full-control",
    ] = ""
    storage_class: str = Field(default="", pattern="^[A-Za-z0-9_-]*$")
    multipart_bytes: int = Field(default=16 * _MIB, ge=5 * _MIB, le=5 * 1024 * _MIB)

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input(
            "must be http or https, a host and perhaps a port, as in http://127.0.0.1:9000, without the bucket"
        ):
            if url:
                bare_http_parts(url)
        return url

    @field_validator("bucket")
    @classmethod
    def _is_no_arn(cls, bucket: str) -> str:
        if bucket.startswith("arn:"):
            raise ValueError("must be the name of a bucket, or the alias of an access point, not an ARN")
        return bucket

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        refuse_half_a_user(self)
        if self.sse_kms_key_id and not self.server_side_encryption.startswith("aws:kms"):
            raise ValueError("sse_kms_key_id needs server_side_encryption = 'aws:kms'")
        if urlsplit(self.endpoint_url).path.rstrip("/").endswith(f"/{self.bucket}"):
            raise ValueError("endpoint_url must not end with the bucket, which is put behind it or before its host")
        if self.ca_file and self.endpoint_url.startswith("http:"):
            raise ValueError("ca_file needs an https endpoint_url")
        return self

    def headers(self) -> dict[str, str]:
        """The headers that every new object is sent with."""
        headers = {
            "x-amz-acl": self.acl,
            "x-amz-server-side-encryption": self.server_side_encryption,
            "x-amz-server-side-encryption-aws-kms-key-id": self.sse_kms_key_id,
            "x-amz-storage-class": self.storage_class,
        }
        return {name: value for name, value in headers.items() if value}
