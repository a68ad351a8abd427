from collectord.units import size_in_words
from tests.support.cases import for_each


@for_each(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1023.7, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (99_960, "97.6 KiB"),
        (26_214_400, "25.0 MiB"),
        (120_400_000, "115 MiB"),
        (5 << 40, "5.0 TiB"),
        (5 << 60, "5,120 PiB"),
    ],
)
def test_size_in_words(size: float, words: str) -> None:
    assert size_in_words(size) == words
