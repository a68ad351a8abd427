"""
The objects of a crash that is kept in a bucket: read, or deleted. All of it blocks.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

from collectord.errors import StorageError
from collectord.model import MINIDUMP, FetchedCrash, checksums_in
from collectord.storage.objects.keys import dump_key, dump_names_key, raw_crash_key

_IS_NAME = re.compile(r"[^/\0]+")
"""Whoever can write to the bucket must not choose the directory that a dump is written to when it is brought back."""


class Objects(Protocol):
    """As much of a L{Bucket<collectord.storage.objects.bucket.Bucket>} as is needed for that."""

    what: str
    errors: tuple[type[Exception], ...]

    def get(self, key: str) -> bytes | None:
        """Return what is in an object; None: there is no object with this key."""

    def delete(self, key: str) -> None:
        """Delete the object with this key."""


def get_all(bucket: Objects, crash_id: str, prefix: str) -> FetchedCrash | None:
    """
    Read a crash.

    @return: None if there is no crash of that id.

    @raise StorageError: it is not whole. Errors of the bucket are raised as they are.
    """
    raw_crash = bucket.get(raw_crash_key(crash_id, prefix))
    if raw_crash is None:
        return None
    try:
        names = json.loads(bucket.get(dump_names_key(crash_id, prefix)) or b"[]")
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) and _IS_NAME.fullmatch(name) for name in names):
        raise StorageError(f"{bucket.what}: the dump names of {crash_id} are no list of names in JSON")
    dumps = {name: bucket.get(dump_key(crash_id, name, prefix)) for name in names}
    if missing := [name for name, content in dumps.items() if content is None]:
        raise StorageError(f"{bucket.what}: {crash_id} has no dump {', '.join(missing)} there")
    return FetchedCrash(raw_crash=raw_crash, dumps={name: content or b"" for name, content in dumps.items()})


def delete_all(bucket: Objects, crash_id: str, prefix: str) -> bool:
    """
    Delete a crash: the raw crash first, so that no reader takes the rest for a crash, and the names of the dumps last,
    so that another try finds them.

    @return: whether there was anything. Errors of the bucket are raised as they are.

    @raise StorageError: the bucket says that something is deleted, and still has it.
    """
    raw_crash_at, names_at = raw_crash_key(crash_id, prefix), dump_names_key(crash_id, prefix)
    raw_crash, listed = bucket.get(raw_crash_at), bucket.get(names_at)
    names = {MINIDUMP, *_names_in(listed), *_names_in(raw_crash)}
    for key in (raw_crash_at, *(dump_key(crash_id, name, prefix) for name in sorted(names)), names_at):
        _delete(bucket, key)
    return raw_crash is not None or listed is not None


def _delete(bucket: Objects, key: str) -> None:
    try:
        bucket.delete(key)
    except bucket.errors:  # some servers refuse to delete what is not there
        if bucket.get(key) is not None:
            raise
        return
    if bucket.get(key) is not None:
        raise StorageError(f"{bucket.what}: {key} was deleted, by its answer, and is still there")


def _names_in(content: bytes | None) -> Iterator[str]:
    """The names of dumps in a list of them, or in a raw crash; none if it is neither."""
    with suppress(ValueError, RecursionError):
        found = json.loads(content or b"[]")
        names = checksums_in(found) if isinstance(found, dict) else found
        yield from (name for name in names or () if isinstance(name, str))
