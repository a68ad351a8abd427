import json

import pytest
from attrs import evolve

from collectord.admin.bugs import versions_in_words, word
from collectord.admin.crashlist import CrashCells, shortened
from collectord.admin.frame import Frame
from collectord.index.values import IndexedCrash, ProductSeen
from tests.support.adminindex import DEBUG_ID, FINGERPRINT
from tests.support.cases import for_each
from tests.unit.admin.adminwire import Admin
from tests.unit.admin.pagereader import page_at


@pytest.fixture
def admin() -> Admin:
    return Admin()


def test_what_was_found(admin: Admin) -> None:
    page = page_at(admin, "/search?q=product:Firefox+version:128")
    assert "4,821 crashes" in page.text
    assert (
        "kept between 04:13:20 and 15:20:00; 19,377 more of this kind were seen and not kept. Found in 38 ms."
        in page.text
    )
    assert "1 to 24" in page.text
    assert "search?q=version%3A128" in page.links()  # without the product
    assert "search?q=product%3AFirefox+version%3A128&before=next" in page.links()
    assert "search?q=product%3AFirefox+version%3A128+product%3A%22Fire+Fox%22" in page.links()
    assert "Wed 22 Jun, today" in page.text
    assert "11 others 207" in page.text
    assert ("value", "product:Firefox version:128") in page.attributes


def test_where_a_crash_is_that_came_without_a_minidump(admin: Admin) -> None:
    assert {row[3] for row in page_at(admin, "/search?q=a").rows if len(row) > 3 and not row[4]} == {"no minidump"}


def test_a_place_that_many_crashes_have_is_shown_without_a_fingerprint() -> None:
    cells = CrashCells(frame=Frame(now=0, started=0, version=""))
    crash = IndexedCrash(crash_id="a", at=0.0, place="amd64 0xb libc.so.6", minidump="")
    assert cells.place(crash).content == "libc.so.6"
    assert cells.place(evolve(crash, place="")).content is None
    assert cells.product(crash).content == "no product"
    assert cells.product(evolve(crash, state="erased")).content is None


def test_the_next_page(admin: Admin) -> None:
    page = page_at(admin, "/search?q=a&before=next")
    assert "25 to 48" in page.text
    assert "search?q=a" in page.links()
    assert page.links("before=") == ["search.json?q=a&before=next"]


def test_nothing_was_found(admin: Admin) -> None:
    page = page_at(admin, "/search?q=product:nothing")
    assert "0 crashes" in page.text
    assert "No crash that the index knows is so." in page.text
    assert "search?q=" in page.links()
    assert page.rows == []


def test_what_can_not_be_searched_for(admin: Admin) -> None:
    page = page_at(admin, "/search?q=wrong:")
    assert "This can't be searched for" in page.text
    assert "wrong: has no value" in page.text


def test_json(admin: Admin) -> None:
    found = json.loads(admin.ask("/search.json?q=product:Firefox").body)
    assert found["count"] == 4821
    assert len(found["crashes"]) == 24


def test_a_fingerprint(admin: Admin) -> None:
    page = page_at(admin, f"/fingerprints/{FINGERPRINT}")
    debug_id = f"Firefox 128.0.1 · debug id {DEBUG_ID}"
    assert f"ACCESS_VIOLATION_READ 0xc0000005 · Windows 11, amd64 · {debug_id}" in page.text
    assert page.text.startswith("appcore.dll+0x1f2e4c · collectord")
    assert "Of all reports, last hour" in page.text
    assert "42.4 %" in page.text
    outcome = "the first 100 of each fingerprint in 1 h, then 1 of 100 kept"
    assert f"rule flood: {outcome} since 13:23:20" in page.text
    assert "10 minutes" in " ".join(
        value or "" for _, value in page_at(admin, f"/fingerprints/{FINGERPRINT}?span=10m").attributes
    )
    assert page.row("1:26160be4b51b0c64")[0] == "1:26160be4b51b0c64"
    assert "../search?q=fingerprint%3A1%3Ae440066559a6656c" in page.links()
    assert "reports an hour" in page.text
    assert "first seen 12:50" in page.text
    assert "not known" in page.text  # of the hour in which the daemon was down
    assert "30 days" in " ".join(
        value or "" for _, value in page_at(admin, f"/fingerprints/{FINGERPRINT}?span=30d").attributes
    )


@pytest.mark.parametrize("name", ["1:ffffffffffffffff", "x" * 5000, "%3Cscript%3E", "..%2f"])
def test_a_fingerprint_that_is_not_there(admin: Admin, name: str) -> None:
    assert admin.ask(f"/fingerprints/{name}").status == 404


@for_each(
    ("value", "expected"),
    [("App", ["product:App"]), ("My App", ['product:"My App"']), ("", []), ('a"b', [])],
)
def test_words_of_a_search(value: str, expected: list[str]) -> None:
    assert word("product", value) == expected


def test_each_product_is_named_once() -> None:
    seen = [ProductSeen(product=product, version=version) for product, version in [("A", "1"), ("A", "2"), ("B", "")]]
    assert versions_in_words(seen) == "A 1, 2, B"


def test_the_end_of_a_long_place_stays() -> None:
    assert shortened("a" * 50 + "+0x1f2e4c", 20) == "aaaaaaaaaa…+0x1f2e4c"
    assert len(shortened("x" * 50, 21)) <= 21
