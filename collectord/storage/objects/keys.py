"""
A crash as objects of an object store, as a Socorro processor reads them.

C{v1/dump/<id>} for the minidump, C{v1/<name>/<id>} for another dump, C{v1/dump_names/<id>} (a JSON list), and
C{v1/raw_crash/<yyyymmdd>/<id>}.
"""

import hashlib
import json
from collections.abc import Iterator

from attrs import field, frozen

from collectord.model import MINIDUMP, Content, Crash, InMemory

_BINARY = "application/octet-stream"
_JSON = "application/json"


@frozen(kw_only=True)
class Item:
    """
    One object.

    @ivar what: in words, for errors.
    @ivar size: in bytes.
    @ivar sha256: of the content, in hex.
    """

    key: str
    what: str
    size: int
    sha256: str
    content_type: str
    content: Content = field(repr=False)


def items_of(crash: Crash, prefix: str = "") -> Iterator[Item]:
    """
    What to store, in this order: a processor that finds the last one, the raw crash, finds all of it.

    @param prefix: of every key.
    """
    crash_id = crash.crash_id
    for dump in crash.dumps:
        yield Item(
            key=f"{prefix}v1/{'dump' if dump.name == MINIDUMP else dump.name}/{crash_id}",
            what=f"the dump {dump.name}",
            size=dump.size,
            sha256=dump.sha256,
            content_type=_BINARY,
            content=dump.content,
        )
    names = json.dumps([dump.name for dump in crash.dumps]).encode()
    yield _small(f"{prefix}v1/dump_names/{crash_id}", "the dump names", _JSON, names)
    day = f"20{crash_id[-6:]}"
    raw_crash = json.dumps(crash.raw_crash).encode()
    yield _small(f"{prefix}v1/raw_crash/{day}/{crash_id}", "the raw crash", _JSON, raw_crash)


def probe(token: str, prefix: str = "") -> Item:
    """
    An object that is there to see whether one can be stored.

    @param token: it differs from one probe to the next: where objects can be stored, they may not be replaced.
    """
    return _small(f"{prefix}v1/check/{token}", "a check", "text/plain", b"collectord")


def _small(key: str, what: str, content_type: str, data: bytes) -> Item:
    return Item(
        key=key,
        what=what,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        content_type=content_type,
        content=InMemory([data]),
    )
