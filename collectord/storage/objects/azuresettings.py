"""
The settings of a destination of C{type = "azure"}.
"""

import binascii
from base64 import b64decode
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from collectord.settings.urls import bare_http_parts, without_quoting_input
from collectord.storage.objects.bucket import ObjectStoreSettings

_MIB = 1024 * 1024


class AzureSettings(ObjectStoreSettings):
    """
    The settings of a destination of C{type = "azure"}.

    @ivar account: the name of the storage account.
    @ivar container: takes the crashes.
    @ivar endpoint_url: of a server other than that of the account at Azure's public cloud.
    @ivar account_key: signs the requests, in Base64 as Azure shows it.
    @ivar sas_token: a shared access signature, instead of the key. With neither, credentials come by the usual chain of
        environment, workload identity, managed identity and command line.
    @ivar ca_file: a PEM file of certificates to trust instead of the system's.
    @ivar access_tier: of each object; empty: that of the account.
    @ivar multipart_bytes: an object that is larger is sent in blocks.
    """

    account: str = Field(pattern="^[a-z0-9]{3,24}$")
    container: str = Field(pattern="^[a-z0-9$][a-z0-9-]{2,62}$")
    endpoint_url: str = ""
    account_key: str = Field(default="", repr=False)
    sas_token: str = Field(default="", repr=False, pattern="^[!-~]*$")
    ca_file: Path | None = None
    access_tier: Literal["", "Hot", "Cool", "Cold"] = ""
    multipart_bytes: int = Field(default=16 * _MIB, ge=_MIB, le=5000 * _MIB)

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input(
            "must be https or http, a host, and perhaps a port and the account, as in http://127.0.0.1:10000/account"
        ):
            if url:
                bare_http_parts(url)
        return url

    @field_validator("account_key")
    @classmethod
    def _is_base64(cls, key: str) -> str:
        try:
            b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("is no Base64, as Azure shows keys") from None
        return key

    @field_validator("sas_token")
    @classmethod
    def _without_question_mark(cls, token: str) -> str:
        return token.removeprefix("?")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.account_key and self.sas_token:
            raise ValueError("set either account_key or sas_token, not both")
        if self.ca_file and self.endpoint_url.startswith("http:"):
            raise ValueError("ca_file needs an https endpoint_url")
        return self
