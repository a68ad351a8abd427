"""
An Azure Blob Storage that a test owns: azurite, from npm.
"""

import re
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from collectord.storage.objects.azureclient import AzureClient
from collectord.storage.objects.azuresettings import AzureSettings
from collectord.storage.objects.azuresigning import authorization_of
from tests.support.daemon import free_port
from tests.support.server import Server

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that azurite always has, and its key, which its documentation shows."""
CONTAINER = "crashes"


def azurite() -> str:
    """
    The path of the program, which C{.ci/run} installs beside the virtual environment. The test is skipped without it.
    """
    beside = Path(sys.prefix) / "npm/node_modules/.bin"
    found = shutil.which("azurite-blob", path=str(beside)) or shutil.which("azurite-blob")
    if found is None:
        pytest.skip("needs azurite (npm install --prefix .venv/npm azurite)")
    return found


@define
class Azurite(Server):
    """
    What it holds is in memory. It has one container, which is empty after each start.
    """

    port: int = field(factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def start(self) -> None:
        super().start()
        self._client().request("PUT", "", {"restype": "container"})

    def command(self) -> Sequence[str]:
        options = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        return [azurite(), "--blobHost", "127.0.0.1", "--blobPort", str(self.port), *options]

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            return True
        return False

    def settings(self, **settings: Any) -> AzureSettings:
        """Settings of a destination in its container."""
        given = {"account": ACCOUNT, "container": CONTAINER, "account_key": KEY, "endpoint_url": self.url, **settings}
        return AzureSettings(type="azure", **given)

    def objects(self, crash_id: str = "") -> Mapping[str, bytes]:
        """What lies in the container, by key."""
        client = self._client()
        listed = client.request("GET", "", {"restype": "container", "comp": "list"}).body.decode()
        keys = [unescape(key) for key in re.findall("<Name>([^<]*)</Name>", listed)]
        return {key: self._download(key) for key in keys if crash_id in key}

    def _download(self, key: str) -> bytes:
        """An answer of the client has 64 KiB at most, so it asks for one range after the other."""
        client, data = self._client(), b""
        size = int(client.request("HEAD", key).headers.get("content-length"))
        while len(data) < size:
            data += client.request("GET", key, {}, {"x-ms-range": f"bytes={len(data)}-{len(data) + 65535}"}).body
        return data

    def _client(self) -> AzureClient:
        settings = self.settings()
        return AzureClient(settings, authorization_of(settings), None)
