"""
A Google Cloud Storage server that a test owns: an emulator that knows no credentials.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from attrs import define, field

from tests.support.daemon import free_port
from tests.support.server import Server


@define
class GcsServer(Server):
    """
    What it holds is in memory.

    @ivar bucket: the one there is, after each start an empty one.
    """

    bucket: str = "crashes"
    port: int = field(factory=free_port)

    @property
    def url(self) -> str:
        """For C{STORAGE_EMULATOR_HOST}."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--in-memory", "--default-bucket", self.bucket]
        return [sys.executable, "-m", "gcp_storage_emulator", "start", *options]

    def objects(self) -> dict[str, bytes]:
        """What lies in the bucket, by key, in the order in which it was made."""
        entries = sorted(self._get("o").get("items", []), key=lambda entry: int(entry["generation"]))
        return {entry["name"]: self._download(entry["name"]) for entry in entries}

    def answers(self) -> bool:
        try:
            with urlopen(self.url, timeout=5):
                return True
        except (URLError, OSError):
            return False

    def _get(self, path: str) -> Any:
        with urlopen(Request(f"{self.url}/storage/v1/b/{self.bucket}/{path}"), timeout=10) as answer:
            return json.load(answer)

    def _download(self, key: str) -> bytes:
        url = f"{self.url}/download/storage/v1/b/{self.bucket}/o/{quote(key, safe='')}?alt=media"
        with urlopen(url, timeout=10) as answer:
            return bytes(answer.read())
