from collectord.nearest import known_in_words
from tests.support.cases import for_each

MANY = [f"{letter}_bytes" for letter in "abcdefghijk"]


@for_each(
    ("unknown", "known", "said"),
    [
        ("rot", ["type", "root"], "did you mean root? known here: type, root"),
        ("ROOT", ["type", "root"], "did you mean root? known here: type, root"),
        ("colour", ["type", "root"], "known here: type, root"),
        ("k_byte", MANY, "did you mean k_bytes?"),
        ("colour", MANY, f"known here: {', '.join(MANY)}"),
        ("", ["root"], "known here: root"),
    ],
)
def test_what_may_have_been_meant_is_named_first(unknown: str, known: list[str], said: str) -> None:
    assert known_in_words(unknown, known) == said
