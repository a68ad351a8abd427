"""
A crash is deleted from a bucket: the raw crash first, the names of its dumps last.
"""

import json
from collections.abc import Mapping

import pytest
from attrs import define, field

from collectord.errors import StorageError
from collectord.storage.objects.kept import delete_all, get_all
from tests.support.cases import for_each

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
RAW = f"stage/v1/raw_crash/20160622/{CRASH_ID}"
NAMES = f"stage/v1/dump_names/{CRASH_ID}"
DUMP, EXTRA = f"stage/v1/dump/{CRASH_ID}", f"stage/v1/extra/{CRASH_ID}"
OTHER = "stage/v1/dump/0bf1bbbb-57c6-4e5d-b2cf-cabde2160623"


class Missing(Exception):
    """There is no such object."""


@define
class DictBucket:
    """
    @ivar strict: it refuses to delete what is not there.
    @ivar broken: the key that can't be deleted.
    @ivar lies: deletions are confirmed, and not done.
    """

    objects: dict[str, bytes]
    strict: bool = False
    broken: str = ""
    lies: bool = False
    what: str = "bucket"
    errors: tuple[type[Exception], ...] = (Missing,)
    deleted: list[str] = field(factory=list)

    def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def delete(self, key: str) -> None:
        if key == self.broken or (self.strict and key not in self.objects):
            raise Missing(key)
        if not self.lies and self.objects.pop(key, None) is not None:
            self.deleted.append(key)


RAW_CRASH = json.dumps({"metadata": {"dump_checksums": {"upload_file_minidump": "a", "extra": "b"}}}).encode()
LIST = b'["upload_file_minidump", "extra"]'
WHOLE = {RAW: RAW_CRASH, NAMES: LIST, DUMP: b"d", EXTRA: b"e", OTHER: b"o"}


@for_each("strict", [True, False])
@for_each(
    ("objects", "there"),
    [
        pytest.param(WHOLE, True, id="whole"),
        pytest.param({**WHOLE, NAMES: b"{"}, True, id="a damaged list"),
        pytest.param({**WHOLE, RAW: b"["}, True, id="a damaged raw crash"),
        pytest.param({NAMES: LIST, EXTRA: b"e", OTHER: b"o"}, True, id="begun before"),
        pytest.param({OTHER: b"o"}, False, id="nothing"),
    ],
)
def test_all_of_it_goes_and_nothing_else(objects: Mapping[str, bytes], there: bool, strict: bool) -> None:
    bucket = DictBucket(dict(objects), strict)
    assert delete_all(bucket, CRASH_ID, "stage/") == there
    assert bucket.objects == {OTHER: b"o"}
    assert not delete_all(bucket, CRASH_ID, "stage/")


def test_the_raw_crash_goes_first_and_the_names_last() -> None:
    bucket = DictBucket(dict(WHOLE))
    delete_all(bucket, CRASH_ID, "stage/")
    assert bucket.deleted == [RAW, EXTRA, DUMP, NAMES]


def test_what_can_not_be_deleted_is_told_and_found_again() -> None:
    bucket = DictBucket(dict(WHOLE), broken=EXTRA)
    with pytest.raises(Missing):
        delete_all(bucket, CRASH_ID, "stage/")
    assert RAW not in bucket.objects
    bucket.broken = ""
    assert delete_all(bucket, CRASH_ID, "stage/")
    assert bucket.objects == {OTHER: b"o"}


def test_a_crash_that_is_still_there_is_not_told_as_deleted() -> None:
    """As by a proxy, or whatever else answers every request alike."""
    bucket = DictBucket(dict(WHOLE), lies=True)
    with pytest.raises(StorageError, match=f"bucket: {RAW} was deleted, by its answer, and is still there"):
        delete_all(bucket, CRASH_ID, "stage/")


def test_a_crash_is_read_only_if_its_list_has_names_of_dumps() -> None:
    found = get_all(DictBucket(dict(WHOLE)), CRASH_ID, "stage/")
    assert found is not None
    assert found.dumps == {"upload_file_minidump": b"d", "extra": b"e"}
    for listed in (
        b"{",
        b"{}",
        b"1",
        b"null",
        b'"extra"',
        b"[1]",
        b'["../../extra"]',
        b'[""]',
        b'["a\\u0000b"]',
        b"[" * 9999,
    ):
        with pytest.raises(StorageError, match=f"the dump names of {CRASH_ID} are no list of names in JSON"):
            get_all(DictBucket({**WHOLE, NAMES: listed}), CRASH_ID, "stage/")
