"""
A Google Cloud Storage server that a test owns: an emulator that knows no credentials.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from attrs import define, field

from tests.support.daemon import free_port
from tests.support.wait import until


@define
class GcsServer:
    """
    It listens when entered, and leaves no process behind; what it holds is in memory.

    @ivar bucket: the one there is, after each start an empty one.
    """

    log: Path
    bucket: str = "crashes"
    port: int = field(factory=free_port)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """For C{STORAGE_EMULATOR_HOST}."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it."""
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--in-memory", "--default-bucket", self.bucket]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gcp_storage_emulator", "start", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._listens, 60)

    def kill(self) -> None:
        """SIGKILL, to this one process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def objects(self) -> dict[str, bytes]:
        """What lies in the bucket, by key, in the order in which it was made."""
        entries = sorted(self._get("o").get("items", []), key=lambda entry: int(entry["generation"]))
        return {entry["name"]: self._download(entry["name"]) for entry in entries}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _listens(self) -> bool:
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
