"""
Where a crash lies, path by path.
"""

import os
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.crashid import make_crash_id
from collectord.model import MINIDUMP
from collectord.storage.filesystem.layout import Place, dump_file, place_at, place_of
from tests.support.cases import for_each
from tests.unit.storage.stores import CRASH_ID, make_crash

NOON = "2016-06-22T12:00:09+00:00"


def test_the_paths_of_the_design() -> None:
    place = place_of("/crashes", make_crash())
    assert place == Place(
        crash_id=CRASH_ID, name_dir="/crashes/20160622/name/8f/63", date_dir="/crashes/20160622/date/15/19_49"
    )
    assert place.raw_crash == f"/crashes/20160622/name/8f/63/{CRASH_ID}.json"
    assert place.dump(MINIDUMP) == f"/crashes/20160622/name/8f/63/{CRASH_ID}.dump"
    assert place.dump("browser_2") == f"/crashes/20160622/name/8f/63/{CRASH_ID}.browser_2.dump"
    assert place.link == f"/crashes/20160622/date/15/19_49/{CRASH_ID}"
    assert place.link_target == "../../../name/8f/63"


@for_each(
    ("depth", "radix"), [("0", "8f/63/75/2c"), ("1", "8f"), ("2", "8f/63"), ("3", "8f/63/75"), ("4", "8f/63/75/2c")]
)
def test_depths(depth: str, radix: str) -> None:
    crash_id = f"8f63752c-57c6-4e5d-b2cf-cabde{depth}160622"
    place = place_at("/crashes", crash_id, NOON)
    assert place.name_dir == f"/crashes/20160622/name/{radix}"
    assert place.link_target == f"../../../name/{radix}"


def test_the_day_is_the_id_s_and_the_time_is_the_raw_crash_s() -> None:
    place = place_at("/crashes", CRASH_ID, "2024-01-01T00:05:59.999999+00:00")
    assert place.date_dir == "/crashes/20160622/date/00/05_59"


@for_each("timestamp", ["", "2016-06-22", "2016-06-22 noon", "2016-06-22T../..::", "2016-06-22T\0\0:00:00"])
def test_no_time(timestamp: str) -> None:
    with pytest.raises(ValueError, match="no ISO 8601"):
        place_at("/crashes", CRASH_ID, timestamp)


def test_a_dump_called_json_is_no_raw_crash() -> None:
    assert dump_file(CRASH_ID, "json") == f"{CRASH_ID}.json.dump"


@pytest.mark.parametrize("crash_id", [CRASH_ID, "8f63752c-57c6-4e5d-b2cf-cabde0160622"])
@pytest.mark.parametrize("root", ["crashes", "name/name/name", "20160622/name/8f"])
def test_the_link_leads_to_the_crash(tmp_path: Path, crash_id: str, root: str) -> None:
    place = place_at(f"{tmp_path}/{root}", crash_id, NOON)
    os.makedirs(place.name_dir)
    os.makedirs(place.date_dir)
    Path(place.raw_crash).write_text("{}")
    os.symlink(place.link_target, place.link)
    assert not os.path.isabs(place.link_target)
    assert os.path.samefile(f"{place.link}/{crash_id}.json", place.raw_crash)


@given(st.uuids(version=4), st.dates(date(2000, 1, 1), date(2099, 12, 31)), st.times())
def test_any_crash_id_has_its_place(uuid: UUID, day: date, time: object) -> None:
    crash_id = make_crash_id(uuid.bytes, day)
    place = place_at("/crashes", crash_id, f"{day.isoformat()}T{time:%H:%M:%S}+00:00")
    assert place.name_dir == f"/crashes/{day:%Y%m%d}/name/{crash_id[:2]}/{crash_id[2:4]}"
    assert place.date_dir == f"/crashes/{day:%Y%m%d}/date/{time:%H}/{time:%M_%S}"
