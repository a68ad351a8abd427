"""
Damages reports as broken clients, proxies and attackers do.
"""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from attrs import evolve

from tests.fuzz.forms import Sent, some_bytes

_TOKENS: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\n\n",
        b"\r\n\r\n",
        b"-",
        b"--",
        b"\0",
        b"\x01\xff",
        b"\xff\xfe",
        b'"',
        b";",
        b"\\",
        b"=",
        b":",
    ),
    *(
        b" ",
        b"MDMP",
        b"{",
        b"}",
        b"[",
        b",",
        b"\\ud800",
        b"\\u0000",
        b"\xed\xa0\x80",
        b"=\r\n",
        b"=4",
        b"%22",
        b"\xef\xbb\xbf",
    ),
)
_HEADERS: Final = (
    *(
        b"Content-Type: text/plain; charset=" + name
        for name in (b"utf-16", b"latin1", b"cp932", b"utf-7", b"hex", b'"x"')
    ),
    *(
        b"Content-Type: " + kind
        for kind in (b"application/json", b"application/octet-stream", b"text/plain", b"", b";")
    ),
    *(b"Content-Transfer-Encoding: " + how for how in (b"base64", b"quoted-printable", b"8bit", b"x-uuencode")),
    b"Content-Disposition: form-data",
    b'Content-Disposition: form-data; name=""',
    b'Content-Disposition: form-data; name="dump"; filename=""',
    b"Content-Disposition: form-data; name=plain; filename=plain",
    b"Content-Disposition: form-data; name=x; filename*=UTF-8''%e2%82%ac",
    b'Content-Disposition: form-data; name*0="ab"; name*1*=%63',
    b'Content-Disposition: form-data; name="_charset_"',
    b'Content-Disposition: form-data; name="\xff"',
    b'Content-Disposition: form-data; name="a%22b%0D%0A\\',
    b'Content-Disposition: attachment; name="extra"',
    b"no colon",
    b": no name",
    b"X: " + b"y" * 40_000,
    b" folded",
)
_CONTENTS: Final = (
    b"MDMP",
    b"MDMP is text, too",
    b"utf-16",
    b'{"a": "1", "a": "2", "uuid": "x", "b": 1.10, "": "", "c%22": "\\u0000\\ud83d"}',
    b'{"a": ["x", {"y": 1}], "b": "x\ny\xff", "c": {',
    b"[" * 300,
    b"{" + b'"a":1,' * 200 + b"}",
    b"\xff\xfea\0b\0\0\xd8",
    b"\xed\xa0\xbd\xed\xb8\x80 \xed\xa0\x80",
    b"\x81\x82\x83\x84\x85" * 20,
    b"TURNUA==",
    b"TURNU" + b"=\r\n" * 30 + b"A==!",
    b"=4D=44=4d=50=\r\n=",
    b"",
)


def damaged(chance: Random, sent: Sent) -> Sent:
    """Return C{sent} with some of its parts changed, moved, repeated or left out."""
    parts = list(sent.parts)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        chance.choice(_OF_PARTS)(chance, parts)
    line_end = chance.choice((sent.line_end, sent.line_end, b"\n", b" \t\r\n", b"\r\r\n", b""))
    before, after = (chance.choice((b"", b"\r\n", b"x", b"\r\n--", chance.choice(_TOKENS))) for _ in range(2))
    return evolve(sent, parts=parts, line_end=line_end, before=before, after=after)


def damaged_body(chance: Random, body: bytes, boundary: bytes) -> bytes:
    """Return C{body} with some of its bytes changed."""
    delimiter = b"--" + boundary
    tokens = (*_TOKENS, delimiter, b"\r\n" + delimiter, b"\n" + delimiter + b"\r\n", delimiter + b"--", delimiter[:-1])
    for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
        at = chance.randint(0, len(body))
        end = min(len(body), at + chance.choice((0, 0, 1, 2, 20, 300)))
        how = chance.randrange(6)
        if how < 3:
            body = body[:at] + chance.choice(tokens) + body[end:]
        elif how == 3:
            body = body[:end] + body[at:]
        elif how == 4:
            body = body[:at]
        else:
            body = body.replace(b"\r\n", b"\n", chance.choice((1, 5, -1)))
    return body


def _swap(chance: Random, parts: list[bytes]) -> None:
    chance.shuffle(parts)


def _repeat(chance: Random, parts: list[bytes]) -> None:
    if parts:
        parts.insert(chance.randint(0, len(parts)), chance.choice(parts))


def _repeat_often(chance: Random, parts: list[bytes]) -> None:
    if parts:
        parts += [min(parts, key=len)] * chance.choice((5, 30, 250))


def _leave_out(chance: Random, parts: list[bytes]) -> None:
    if parts:
        parts.pop(chance.randrange(len(parts)))


def _cut(chance: Random, parts: list[bytes]) -> None:
    if parts:
        at = chance.randrange(len(parts))
        parts[at] = parts[at][: chance.randint(0, len(parts[at]))]


def _add(chance: Random, parts: list[bytes]) -> None:
    lines = chance.sample(_HEADERS, chance.randint(0, 3))
    content = chance.choice((*_CONTENTS, some_bytes(chance)))
    parts.insert(chance.randint(0, len(parts)), b"".join(line + b"\r\n" for line in lines) + b"\r\n" + content)


def _change_headers(chance: Random, parts: list[bytes]) -> None:
    if parts:
        at = chance.randrange(len(parts))
        head, blank, content = _split(parts[at])
        lines = head.split(b"\n")
        if chance.random() < 0.5:
            lines.pop(chance.randrange(len(lines)))
        if chance.random() < 0.8:
            lines.insert(chance.randint(0, len(lines)), chance.choice(_HEADERS) + b"\r")
        parts[at] = b"\n".join(lines) + blank + content


def _change_content(chance: Random, parts: list[bytes]) -> None:
    if parts:
        at = chance.randrange(len(parts))
        head, blank, _ = _split(parts[at])
        parts[at] = head + blank + chance.choice((*_CONTENTS, some_bytes(chance)))


def _split(part: bytes) -> tuple[bytes, bytes, bytes]:
    found = re.search(rb"\r?\n\r?\n", part)
    return (part[: found.start()], found[0], part[found.end() :]) if found else (part, b"\r\n\r\n", b"")


_OF_PARTS: Final[Sequence[Callable[[Random, list[bytes]], None]]] = (
    *(_swap, _repeat, _repeat_often, _leave_out, _cut),
    *(_add, _add, _change_headers, _change_headers, _change_content, _change_content),
)
