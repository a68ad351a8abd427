"""
Reports as clients send them, made up at random, and what each of them says.

The spelling of a report varies as it does between clients: its headers, line ends, charsets and encodings. What it says
does not depend on that.
"""

import base64
import binascii
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

import brotli
from attrs import field, frozen

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_NAMES: Final = (
    "ProductName",
    "Version",
    "prod",
    "ver",
    "guid",
    "product",
    "version",
    "uuid",
    "type_tag",
    "Комментарий",
)
_ODD_NAMES: Final = (" a b ", 'with "quotes"', "a;b=c", "a\\b", "line\r\nend", "a'b", "=", "名前", "[0][x]", "c:\\")
_FILES: Final = (
    "upload_file_minidump",
    "upload_file_minidump_browser",
    "log",
    "view_hierarchy",
    "memory_report",
    "Foo1",
)
_FILENAMES: Final = (
    "minidump.dmp",
    "a b.dmp",
    "log.txt",
    "é.json.gz",
    'the "file"',
    "C:\\Temp\\x.dmp",
    "semi;colon",
    "😀",
)
_TYPES: Final = (
    "application/octet-stream",
    "text/plain",
    "application/x-dmp",
    "Application/GZip",
    "text/plain; charset=utf-16",
    'image/png ;title="é; ü"',
)
_CHARSETS: Final = ("utf-8", "iso-8859-1", "windows-1252", "windows-1251", "utf-16", "utf-16le", "shift_jis", "gbk")
_ALPHABETS: Final = (
    "abc xyz 019",
    "é ü ß",
    "привет ",
    "日本語",
    "a😀é\ufeff\ufffd",
    '\r\n\t "\\%22={}[]:,-\x01\x1b\x7f',
    "\r\n-",
)
_RAW_JSON: Final = (
    "1.10",
    "1e999",
    "-0",
    "[1, 2 ]",
    '{"a": null, "b":[{}]}',
    "true",
    "null",
    "9" * 400,
    '["x\\ud800"]',
)


@frozen
class File:
    """What a client sends of a file."""

    name: str
    filename: str
    content_type: str
    content: bytes = field(repr=False)


@frozen
class Sent:
    """
    A request that posts a report.

    @ivar parts: of its body, without what is between them.
    """

    parts: Sequence[bytes]
    boundary: bytes
    before: bytes = b""
    after: bytes = b"\r\n"
    line_end: bytes = b"\r\n"

    @property
    def body(self) -> bytes:
        """Its bytes, which are not compressed."""
        delimiter, end = b"--" + self.boundary, self.line_end
        parts = b"".join(delimiter + end + part + end for part in self.parts)
        return self.before + parts + delimiter + b"--" + self.after

    @property
    def content_type(self) -> bytes:
        return b'multipart/form-data; boundary="' + self.boundary + b'"'


@frozen
class Form:
    """A report as it is sent, and what it says."""

    sent: Sent = field(repr=False)
    annotations: Mapping[str, str]
    files: Sequence[File]


def make_form(chance: Random) -> Form:
    """Make up a report that any collector has to take, without a word about it."""
    annotations = {name: _text(chance) for name in _some(chance, (*_NAMES, *_ODD_NAMES), 8)}
    files = [_file(chance, name) for name in _some(chance, _FILES, 4)]
    boundary = chance.choice((b"xyzzy", b"---MultipartBoundary-%d---" % chance.randrange(9**9), b"-" * 27 + b"1"))
    line_end = chance.choice((b"\r\n", b"\r\n", b"\n"))
    spell = _Spelling(chance, line_end)
    if annotations and chance.random() < 0.3:
        members, annotations = _members(chance, annotations)
        parts = [spell.json(chance.choice(("extra", "annotations")), members)]
    else:
        parts = [spell.text(name, value) for name, value in annotations.items()]
    parts += [spell.file(file) for file in files]
    if not parts:
        annotations, parts = {"a": "b"}, [spell.text("a", "b")]
    if any(part.endswith(b"\r") for part in parts):
        line_end = b"\r\n"  # it would be taken for half of one
    while any(boundary in part for part in parts):
        boundary += b"x"
    before = chance.choice((b"", b"", line_end, b"\r\n\r\n"))
    after = chance.choice((b"", line_end, b" \r\n", b"\r\n\r\n"))
    return Form(Sent(parts, boundary, before, after, line_end), annotations, files)


def compressed(chance: Random, body: bytes) -> tuple[bytes, bytes]:
    """Return a Content-Encoding, and C{body} in it: in several members, perhaps, where that is possible."""
    single = (b"gzip", b"gzip", b"x-gzip", b"deflate", b"br", b"zstd")
    encoding = chance.choice((*single, b"gzip, identity", b"gzip, br", b"deflate, zstd, gzip"))
    for name in encoding.removesuffix(b", identity").split(b", "):
        body = _compressed(chance, name, body)
    return encoding, body


def _compressed(chance: Random, name: bytes, body: bytes) -> bytes:
    if name == b"br":
        return bytes(brotli.compress(body, quality=chance.choice((0, 5))))
    if name == b"deflate":
        return zlib.compress(body, chance.choice((0, 6)), wbits=chance.choice((15, -15)))
    compress = zstd.compress if name == b"zstd" else gzip.compress
    middle = chance.choice((0, chance.randint(0, len(body))))
    pieces = [piece for piece in (body[:middle], body[middle:]) if piece]
    return b"".join(compress(piece, chance.choice((1, 9))) for piece in pieces) + b"\0" * chance.choice((0, 0, 3))


def some_bytes(chance: Random) -> bytes:
    """Bytes that a file may have."""
    size = chance.choice((0, 1, 3, chance.randrange(200), 1000, 1100, chance.randrange(20_000)))
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(size)
    if kind == 1:
        return b"MDMP" + chance.randbytes(size)
    if kind == 2:
        return bytes(chance.choices(b"\r\n-x\0=", k=size))
    return b"".join(chance.choices((b"\r\n--", b"\n", b"\r", b"--", b"\r\n--xyzz", b"MDMP", b"\0"), k=size // 100))


def _some(chance: Random, names: Sequence[str], most: int) -> Sequence[str]:
    return chance.sample(names, chance.randint(0, min(most, len(names))))


def _text(chance: Random) -> str:
    size = chance.choice((0, 1, 5, 30, chance.randrange(3000)))
    return "".join(chance.choices(chance.choice(_ALPHABETS), k=size))


def _file(chance: Random, name: str) -> File:
    return File(name, chance.choice(_FILENAMES), chance.choice(_TYPES), some_bytes(chance))


def _members(chance: Random, annotations: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """As JSON, in which some of the values are no strings."""
    said, members, blank = {}, [], chance.choice(("", " ", "\n\t"))
    for name, text in annotations.items():
        raw = chance.choice(_RAW_JSON)
        is_text = chance.random() < 0.7
        said[name] = text if is_text else raw
        key, value = (json.dumps(t, ensure_ascii=chance.random() < 0.5) for t in (name, text))
        members.append(f"{blank}{key}{blank}:{blank}{value if is_text else raw}{blank}")
    return f"{blank}{{{','.join(members)}}}{blank}".encode(), said


class _Spelling:
    """Writes parts as one of many clients does."""

    def __init__(self, chance: Random, line_end: bytes) -> None:
        self._chance = chance
        self._line_end = line_end
        self._case: Callable[[str], str] = chance.choice((str, str.lower, str.upper))
        self._further = chance.choice(("", "Content-Length: 7", "X-Other: é", "Content-Disposition-X: a"))
        self._fold = chance.random() < 0.1

    def text(self, name: str, value: str) -> bytes:
        chance, headers = self._chance, []
        content = value.encode()
        if chance.random() < 0.2:
            charset = chance.choice(_CHARSETS)
            if encoded := _encoded(value, charset):
                content = encoded
                headers = [f"{self._case('Content-Type')}: text/plain; charset={charset}"]
        elif chance.random() < 0.3:
            headers = ["Content-Type: text/plain"]
        return self._part([self._disposition(name), *headers], content)

    def json(self, name: str, members: bytes) -> bytes:
        filename = "extra.json" if name == "extra" and self._chance.random() < 0.5 else None
        return self._part([self._disposition(name, filename), "Content-Type: application/json"], members)

    def file(self, file: File) -> bytes:
        headers = [self._disposition(file.name, file.filename), f"{self._case('Content-Type')}: {file.content_type}"]
        content, how = file.content, self._chance.random()
        if how < 0.1:
            headers.append("Content-Transfer-Encoding: base64")
            content = base64.encodebytes(content)
        elif how < 0.2:
            headers.append("Content-Transfer-Encoding: quoted-printable")
            content = binascii.b2a_qp(content, istext=False)
        elif how < 0.3:
            headers.append("Content-Transfer-Encoding: binary")
        self._chance.shuffle(headers)
        return self._part(headers, content)

    def _disposition(self, name: str, filename: str | None = None) -> str:
        between = self._line_end.decode() + " " if self._fold else self._chance.choice((" ", "", "\t"))
        header = f'{self._case("Content-Disposition")}: form-data;{between}name="{_escaped(name)}"'
        if filename is not None:
            header += f';{between}filename="{_escaped(filename)}"'
        return header

    def _part(self, headers: Sequence[str], content: bytes) -> bytes:
        lines = [header.encode() for header in (*headers, self._further) if header]
        return self._line_end.join(lines) + 2 * self._line_end + content


def _escaped(name: str) -> str:
    """As browsers do."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _encoded(text: str, charset: str) -> bytes | None:
    """None if it would not be the same text again, or if it looks as if it were not."""
    try:
        encoded = text.encode(charset)
        return encoded if encoded.decode(charset) == text and text[:1] != "\ufeff" and "\ufffd" not in text else None
    except UnicodeError:
        return None
