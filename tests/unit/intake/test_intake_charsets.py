import encodings
import pkgutil
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.intake.charsets import TextDecoder, without_surrogates
from collectord.model import Note
from tests.support.cases import for_each

MEBI = 2**20


def decoded(content: bytes, charset: str | None = None) -> tuple[str, Note | None]:
    text, notes = TextDecoder().decode(content, charset)
    assert len(notes) <= 1
    return text, notes[0] if notes else None


@for_each(
    ("charset", "codec", "text"),
    [
        (None, "utf-8", "aé€😀"),
        ("", "utf-8", "aé€😀"),
        (None, "utf-16", "aé€😀"),
        ("UTF-8", "utf-8", "aé€😀"),
        ("us-ascii", "utf-8", "aé€😀"),
        ("iso-8859-1", "latin-1", "aé\x80"),
        ("Latin1", "latin-1", "aé"),
        ("ISO_8859-15", "iso8859-15", "aé€"),
        ("windows-1252", "cp1252", "aé€"),
        ("x-cp1251", "cp1251", "ая"),
        ("windows-1258", "cp1258", "aé"),
        ("windows-874", "cp874", "aก"),
        ("koi8-r", "koi8-r", "ая"),
        ("utf-16", "utf-16", "aé€😀"),
        ("utf-16", "utf-16-le", "aé€😀"),
        ("UTF-16BE", "utf-16-be", "aé€😀"),
        ("utf-16le", "utf-16", "aé€😀"),
        ("utf-32", "utf-32", "aé€😀"),
        ("Shift_JIS", "cp932", "aあ①"),
        ("euc-kr", "euc-kr", "a한"),
        ("gb2312", "gb18030", "a漢😀"),
        ("iso-2022-jp", "iso2022-jp", "aあa"),
    ],
)
@for_each("times", [0, 1, 5000], ids=["empty", "short", "long"])
def test_text_in_its_charset(charset: str | None, codec: str, text: str, times: int) -> None:
    assert decoded((text * times).encode(codec), charset) == (text * times, None)


@for_each("charset", ["nonsense", "x" * 10_000, "\xff", "base64", "rot13", "zlib", "idna", "utf-7", "unicode_escape"])
def test_an_unknown_charset_is_read_as_utf8(charset: str) -> None:
    text, note = decoded("é\\u20ac+AGE-".encode(), charset)
    assert text == "é\\u20ac+AGE-"
    assert note == Note("repaired", f"its charset {charset[:40]!r} is not known, so it is read as UTF-8")
    assert decoded(b"\xff", charset)[0] == "\ufffd"


def test_no_client_chooses_a_codec_that_decodes_no_text() -> None:
    for module in pkgutil.iter_modules(encodings.__path__):
        text, _ = decoded(b"a+b", module.name)
        assert text == "a+b" or module.name.startswith(("utf_16", "utf_32")), module.name


@for_each(
    ("content", "charset", "text"),
    [
        (b"caf\xe9 au lait", None, "caf\ufffd au lait"),
        (b"caf\xe9 au lait", "utf-8", "caf\ufffd au lait"),
        (b"\xe2\x82", None, "\ufffd"),
        (b"a\x81b", "windows-1252", "a\ufffdb"),
        (b"a\0\x00\xd8b\0", "utf-16", "a\ufffdb"),
        (b"a\0b", "utf-16", "a\ufffd"),
        (b"a\x81", "shift_jis", "a\ufffd"),
        (b"\xff\xff\xff\xff", "utf-32", "\ufffd"),
        (b"a\xed\xa0\xbdb", None, "a\ufffdb"),
        (b"\xed\xa0\xbd\xff", None, "\ufffd" * 4),
    ],
)
def test_what_cant_be_decoded_is_replaced(content: bytes, charset: str | None, text: str) -> None:
    found, note = decoded(content, charset)
    assert found == text
    assert note is not None
    assert note.kind == "replaced"


@for_each("charset", [None, "utf-16", "latin-1", "nonsense"])
def test_nul_is_left_out(charset: str | None) -> None:
    content = "a\0b\0\0".encode("utf-16-le" if charset == "utf-16" else "utf-8")
    text, notes = TextDecoder().decode(content, charset)
    assert text == "ab"
    assert Note("left_out", "its NUL characters are left out") in notes


def test_utf8_as_java_writes_it() -> None:
    content = "é😀".encode("utf-16-be").decode("utf-16-be").encode()
    java = "é".encode() + b"\xed\xa0\xbd\xed\xb8\x80"
    assert decoded(content)[0] == decoded(java)[0] == "é😀"
    assert decoded(java)[1] == Note("repaired", "it is UTF-8 that encodes surrogates")


CHARSETS = [
    *(None, "nonsense", "utf-8", "utf-16", "utf-16be", "utf-32", "latin-1", "iso-8859-7", "windows-1252", "koi8-r"),
    *("shift_jis", "euc-jp", "iso-2022-jp", "gb18030", "big5", "big5-hkscs", "euc-kr"),
]


@given(st.binary(max_size=50), st.sampled_from(CHARSETS))
def test_anything_becomes_text(content: bytes, charset: str | None) -> None:
    text, notes = TextDecoder().decode(content, charset)
    text.encode()
    assert "\0" not in text
    assert ("replaced" in {note.kind for note in notes}) == ("\ufffd" in text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("charset", "content"),
    [
        ("utf-16", b"\0\xd8" * MEBI),
        ("utf-16", b"\0\xd8a\0" * (MEBI // 2)),
        ("windows-1252", b"\x81" * 2 * MEBI),
        ("shift_jis", b"\xff" * 2 * MEBI),
        ("iso-2022-jp", b"\x1b$B" * (MEBI // 2)),
        ("utf-8", b"\xff" * 2 * MEBI),
        ("utf-8", b"\xed\xa0\x80" * (MEBI // 2)),
    ],
    ids=["utf-16", "utf-16 and text", "windows-1252", "shift_jis", "iso-2022-jp", "utf-8", "surrogates"],
)
def test_errors_take_no_time(charset: str, content: bytes) -> None:
    def seconds() -> float:
        decoder, began = TextDecoder(), thread_time()
        for at in range(0, len(content), 100_000):
            decoder.decode(content[at : at + 100_000], charset)
        return thread_time() - began

    assert min(seconds() for _ in range(3)) < 0.05


def test_without_surrogates() -> None:
    assert without_surrogates("a?\ud800b\udc00?😀") == "a?\ufffdb\ufffd?😀"
    assert without_surrogates("é?") == "é?"
