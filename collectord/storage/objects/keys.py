"""
The objects that a crash consists of in a bucket, with the keys that a Socorro processor reads.

C{v1/dump/<id>} is the minidump, C{v1/<name>/<id>} another dump, C{v1/dump_names/<id>} a JSON list of the dumps, and
C{v1/raw_crash/<yyyymmdd>/<id>} the raw crash.
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
    An item is one object that is to be stored in a bucket.

    @ivar what: what the object is, in words, for error messages.
    @ivar size: in bytes.
    @ivar sha256: the checksum of the content, in hex.
    """

    key: str
    what: str
    size: int
    sha256: str
    content_type: str
    content: Content = field(repr=False)


def items_of(crash: Crash, prefix: str = "") -> Iterator[Item]:
    """
    Give the objects of C{crash} in the order in which they have to be stored.

    The raw crash comes last, so a processor that finds it finds all of the crash.

    @param prefix: comes before every key.
    """
    crash_id = crash.crash_id
    for dump in crash.dumps:
        yield Item(
            key=dump_key(crash_id, dump.name, prefix),
            what=f"the dump {dump.name}",
            size=dump.size,
            sha256=dump.sha256,
            content_type=_BINARY,
            content=dump.content,
        )
    names = json.dumps([dump.name for dump in crash.dumps]).encode()
    yield _small(dump_names_key(crash_id, prefix), "the dump names", _JSON, names)
    raw_crash = json.dumps(crash.raw_crash).encode()
    yield _small(raw_crash_key(crash_id, prefix), "the raw crash", _JSON, raw_crash)


def dump_key(crash_id: str, name: str, prefix: str = "") -> str:
    """Return the key of the dump of that name."""
    return f"{prefix}v1/{'dump' if name == MINIDUMP else name}/{crash_id}"


def dump_names_key(crash_id: str, prefix: str = "") -> str:
    """Return the key of the list of the dumps."""
    return f"{prefix}v1/dump_names/{crash_id}"


def raw_crash_key(crash_id: str, prefix: str = "") -> str:
    """Return the key of the raw crash of the crash with this id."""
    return f"{prefix}v1/raw_crash/20{crash_id[-6:]}/{crash_id}"


def probe(token: str, prefix: str = "") -> Item:
    """
    Make an object that is stored only to see whether objects can be stored.

    @param token: a text that differs from one probe to the next, since a bucket may forbid to replace an object.
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
