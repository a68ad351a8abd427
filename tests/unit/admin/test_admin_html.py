from hypothesis import given
from hypothesis import strategies as st

from collectord.admin.format import visible
from collectord.admin.html import document, group, h
from collectord.admin.tables import Cell, Column, Row, pairs, table
from tests.unit.admin.pagereader import Page


def written(element: object) -> str:
    return document(element).decode().partition("\n")[2]  # type: ignore[arg-type]


def test_an_element() -> None:
    element = h("a", "<b>", None, ["&", h("i", "x"), "y"], "z", class_="a b", data_label='"<', href=None)
    assert (
        written(element)
        == '<a class="a b" data-label="&quot;&lt;">&lt;b&gt;&amp;<i>x</i>yz</a>'.replace("&lt;", "<", 1)
        or written(element) == '<a class="a b" data-label="&quot;&lt;">&lt;b&gt;&amp;<i>x</i>yz</a>'
    )


def test_several_things_where_one_is_expected() -> None:
    assert written(h("p", group("a", h("b", "c"), None))) == "<p>a<b>c</b></p>"


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=50))
def test_any_text_can_be_shown(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    assert not any(0xD800 <= ord(character) < 0xE000 for character in shown)
    page = Page()
    page.feed(written(h("p", text, title=text)))
    assert page.elements == {"p"}
    assert [name for name, _ in page.attributes] == ["title"]
    assert "".join(page.texts).lstrip("\n") == shown.replace("\r", "\n").lstrip("\n")


def test_a_table() -> None:
    columns = [Column(head="Name", is_head=True), Column(head="Size", style="n", cells="t", label="size", sorted=True)]
    shown = table("All of them", columns, [Row("k", ["a", Cell("1", "zero", title="one")])])
    assert written(shown) == (
        '<table class="stack"><caption>All of them</caption><thead><tr><th scope="col">Name</th>'
        '<th scope="col" class="n" aria-sort="descending">Size</th></tr></thead><tbody><tr data-key="k">'
        '<th scope="row">a</th><td class="n t zero" data-label="size" title="one">1</td></tr></tbody></table>'
    )


def test_a_long_name_may_be_broken() -> None:
    assert '<th scope="row">a_<wbr>b_<wbr>c</th><td>1</td>' in written(pairs("Facts", [("a_b_c", "1")]))
