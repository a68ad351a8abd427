"""
A crash is deleted from a bucket: the raw crash first, the names of its dumps last.
"""

import json
from collections.abc import Mapping

import pytest
from attrs import define, field

from collectord.errors import StorageError
from collectord.storage.objects.kept import delete_all
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
