"""
Made-up crashes for tests.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from attrs import frozen

from collectord.crashid import make_crash_id
from collectord.errors import StorageError
from collectord.model import Content, Crash, Dump, InMemory
from collectord.pieces import ReaderAt

T = TypeVar("T")

DUMPS: Mapping[str, bytes] = {"upload_file_minidump": b"MDMP a minidump", "upload_file_minidump_browser": b"MDMP other"}


@frozen
class Torn:
    """The content of a dump that can't be read to its end: after the first bytes comes an error."""

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"MDMP"
        raise StorageError("it can't be read to the end")

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        raise StorageError("it can't be read")


def make_crash(dumps: Mapping[str, bytes] = DUMPS, torn: str = "", **annotations: object) -> Crash:
    """
    Make a crash that was received now, with a new id.

    @param dumps: the bytes of the dumps, by their names.
    @param torn: the name of a dump that can't be read to its end.
    @param annotations: annotations of the crash besides C{ProductName} and C{Version}, or instead of them.
    """
    now = datetime.now(UTC)
    crash_id = make_crash_id(os.urandom(16), now.date())
    made = [_dump(name, content, Torn() if name == torn else InMemory([content])) for name, content in dumps.items()]
    raw_crash = {
        "ProductName": "Fenix",
        "Version": "1.0",
        **annotations,
        "uuid": crash_id,
        "submitted_timestamp": now.isoformat(),
        "version": 2,
        "legacy_processing": 0,
        "throttle_rate": 100,
        "type_tag": "bp",
        "metadata": {"dump_checksums": {dump.name: dump.sha256 for dump in made}},
    }
    return Crash(crash_id=crash_id, raw_crash=raw_crash, dumps=made)


def _dump(name: str, content: bytes, where: Content) -> Dump:
    return Dump(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest(), content=where)
