"""
Odd multipart bodies, and what parsers of other servers make of them.

Not all of these are there on every machine, so what they make of the bodies is recorded, and a test compares the record
with what they do where they are there. After a change of the bodies run C{python -m tests.support.otherparsers.record}
on a machine with Go (Debian's golang-go), busboy (node-busboy) and Python 3.11.
"""

import json
import subprocess
import warnings
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from werkzeug.exceptions import HTTPException
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

HERE = Path(__file__).parent
RECORD = HERE / "recorded.json"
GO, BUSBOY, CGI = "Go 1.19.8", "busboy 1.6.0", "cgi of Python 3.11"

Parts = Sequence[tuple[bytes, bytes]]
"""The names and the contents of the parts of a body; a part without a name is called empty."""

A = b'--xyzzy\r\nContent-Disposition: form-data; name="a"\r\n'
NEXT = b'--xyzzy\r\nContent-Disposition: form-data; name="next"\r\n\r\n2\r\n'
END = b"--xyzzy--\r\n"
FILE = b'--xyzzy\r\nContent-Disposition: form-data; name="f"; filename="a.dmp"\r\n'


def _named(parameters: bytes) -> bytes:
    return b"--xyzzy\r\nContent-Disposition: form-data; " + parameters + b"\r\n\r\n1\r\n" + NEXT + END


USUAL = A + b"\r\n1\r\n" + NEXT + END

BODIES: Mapping[str, bytes] = {
    "usual": USUAL,
    "a file": FILE + b"Content-Type: application/octet-stream\r\n\r\nMDMP\0\xff\r\n" + NEXT + END,
    "no parts": END,
    "LF alone": USUAL.replace(b"\r\n", b"\n"),
    "LF alone, content with CR": USUAL.replace(b"\r\n", b"\n").replace(b"1\n", b"1\r\r\n"),
    "LF alone, a file": (FILE + b"\r\nMDMP\0\xff\r\n" + NEXT + END).replace(b"\r\n", b"\n"),
    "LF alone in headers": USUAL.replace(b'"a"\r\n\r\n', b'"a"\n\n'),
    "LF alone after a boundary": USUAL.replace(b"--xyzzy\r\n", b"--xyzzy\n"),
    "LF alone before a boundary": USUAL.replace(b"\r\n--xyzzy", b"\n--xyzzy"),
    "CR alone": USUAL.replace(b"\r\n", b"\r"),
    "CR alone after a header": USUAL.replace(b'"a"\r\n', b'"a"\rX-Other: x\r\n'),
    "CR alone after a name without quotes": _named(b"name=a\rX-Other: x"),
    "CR alone before a header": USUAL.replace(b"Content-", b"X-Other: x\rContent-", 1),
    "blanks after boundaries": USUAL.replace(b"--xyzzy\r\n", b"--xyzzy \t \r\n"),
    "blanks after the last boundary": USUAL.replace(b"--xyzzy--", b"--xyzzy-- \t"),
    "a blank line with blanks": USUAL.replace(b'"a"\r\n\r\n', b'"a"\r\n \r\n'),
    "an empty part": A + b"\r\n\r\n" + NEXT + END,
    "an empty part without its own line end": A + b"\r\n" + NEXT + END,
    "an empty part without its own line end, last": NEXT + A + b"\r\n" + END,
    "an empty file without its own line end": FILE + b"\r\n" + NEXT + END,
    "a part without a blank line": A + NEXT + END,
    "a part without headers": b"--xyzzy\r\n\r\n1\r\n" + NEXT + END,
    "a boundary twice in a row": b"--xyzzy\r\n" + USUAL,
    "a preamble": b"This is MIME.\r\n" + USUAL,
    "an empty line before": b"\r\n" + USUAL,
    "a preamble with almost a boundary": b"--xyzz\r\n--xyzzyx\r\n" + USUAL,
    "a byte order mark before": b"\xef\xbb\xbf" + USUAL,
    "an epilogue": USUAL + b"epilogue\r\n",
    "another form after the end": USUAL + USUAL,
    "no line end after the end": USUAL[:-2],
    "text right after the end": USUAL[:-2] + b"text",
    "no last boundary": A + b"\r\n1\r\n" + NEXT,
    "no last boundary, no line end": A + b"\r\n1\r\n" + NEXT[:-2],
    "no last dashes": USUAL[:-4] + b"\r\n",
    "half of the last boundary": USUAL[:-8],
    "cut off in headers": A + b"\r\n1\r\n" + NEXT[:-12],
    "content that begins like a boundary": A + b"\r\n--xyzz\r\n--xyzzyx\r\n--xyzzy-\r\n-\r\n" + NEXT + END,
    "content with empty lines": A + b"\r\n\r\n\n\r\n\r\n" + NEXT + END,
    "content with blanks around a boundary": A + b"\r\n --xyzzy\r\n" + NEXT + END,
    **{
        f"Content-Length {value}": A + b"Content-Length: " + value.encode("latin-1") + b"\r\n\r\n1\r\n" + NEXT + END
        for value in ("1", "-1", "", "unknown", "\x80", "1.0", "+1", " 1 ")
    },
    "no quotes": _named(b"name=a"),
    "no quotes, brackets": _named(b"name=sentry[release]"),
    "no quotes, a blank": _named(b"name=Foo Bar"),
    "no quotes, then a file name": _named(b"name=a; filename=b"),
    "quotes, brackets": _named(b'name="sentry[release]"'),
    "single quotes": _named(b"name='a'"),
    "blanks around =": _named(b'name = "a"'),
    "no blank after the semicolon": _named(b'x=y;name="a"'),
    "semicolons at the end": _named(b'name="a";;'),
    "a semicolon in quotes": _named(b'name="a;b"'),
    "escaped quotes": _named(b'name="a\\"b"'),
    "escaped backslashes": _named(b'name="a\\"\\\\b"'),
    "a path": _named(b'name="a"; filename="C:\\new\\a.dmp"'),
    "percent": _named(b'name="100%"'),
    "UTF-8": _named('name="é€"'.encode()),
    "latin-1": _named(b'name="caf\xe9"'),
    "an empty name": _named(b'name=""'),
    "no name": _named(b"x=y"),
    "a name in capitals": _named(b'NAME="a"'),
    "a file name alone": _named(b'filename="a.dmp"'),
    "filename*": _named(b"name=\"a\"; filename*=UTF-8''%e2%82%ac.dmp"),
    "name*": _named(b"name*=UTF-8''%e2%82%ac"),
    "name in pieces": _named(b'name*0="ab"; name*1="cd"'),
    "another disposition": A.replace(b"form-data", b"attachment") + b"\r\n1\r\n" + NEXT + END,
    "header names in small letters": USUAL.replace(b"Content-Disposition", b"content-disposition"),
    "a blank before the colon": USUAL.replace(
        b'Disposition: form-data; name="a"', b'Disposition : form-data; name="a"'
    ),
    "no blank after the colon": USUAL.replace(b"Disposition: ", b"Disposition:"),
    "folded": USUAL.replace(b'; name="a"', b';\r\n name="a"'),
    "folded by a tab": USUAL.replace(b'; name="a"', b';\r\n\tname="a"'),
    "folded, LF alone": USUAL.replace(b'; name="a"', b';\n name="a"'),
    "folded, another header": A + b"X-Long: a\r\n b\r\n c\r\n\r\n1\r\n" + NEXT + END,
    "a line without a colon": A + b"no colon\r\n\r\n1\r\n" + NEXT + END,
    "a header name with a blank": A + b"Bad Name: x\r\n\r\n1\r\n" + NEXT + END,
    "an empty header": A + b"Content-Type:\r\n\r\n1\r\n" + NEXT + END,
    "bytes in a header": A + b"X-Other: \x01\xff\r\n\r\n1\r\n" + NEXT + END,
    "a header twice": A + b'Content-Disposition: form-data; name="b"\r\n\r\n1\r\n' + NEXT + END,
    "a header of 5 KiB": A + b"X-Long: " + b"x" * 5000 + b"\r\n\r\n1\r\n" + NEXT + END,
    "a header of 15 KiB": A + b"X-Long: " + b"x" * 15_000 + b"\r\n\r\n1\r\n" + NEXT + END,
    "a hundred headers": A + b"X-Other: x\r\n" * 100 + b"\r\n1\r\n" + NEXT + END,
}


def by_werkzeug(body: bytes) -> Parts | None:
    """What werkzeug makes of it; None if it refuses it."""
    decoder = MultipartDecoder(b"xyzzy")
    parts: list[tuple[bytes, bytes]] = []
    try:
        decoder.receive_data(body)
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), (Epilogue, NeedData)):
            if isinstance(event, (Field, File)):
                parts.append(((event.name or "").encode("utf-8", "surrogateescape"), b""))
            elif isinstance(event, Data):
                name, content = parts.pop()
                parts.append((name, content + event.data))
    except (ValueError, HTTPException):
        return None
    return parts


def by_cgi(body: bytes) -> Parts | None:
    """What Python's C{cgi} makes of it, which was removed in 3.13; None if it refuses it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import cgi
    headers = {"content-type": "multipart/form-data; boundary=xyzzy", "content-length": str(len(body))}
    environ = {"REQUEST_METHOD": "POST"}
    try:
        form = cgi.FieldStorage(BytesIO(body), headers, environ=environ, keep_blank_values=True, encoding="latin-1")
        fields = form.list or []
    except ValueError:
        return None
    return [((field.name or "").encode("latin-1"), _bytes(field.value)) for field in fields]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1")


NODE: Final = ["env", "NODE_PATH=/usr/share/nodejs", "node"]
"""Any node, with Debian's packages."""


def by_go(bodies: Mapping[str, bytes]) -> Mapping[str, Parts | None]:
    """What Go makes of each."""
    return _run(["go", "run", str(HERE / "read.go")], bodies)


def by_busboy(bodies: Mapping[str, bytes]) -> Mapping[str, Parts | None]:
    """What busboy makes of each."""
    return _run([*NODE, str(HERE / "read.js")], bodies)


def recorded(parser: str) -> Mapping[str, Parts | None]:
    """What was recorded of a parser, by its name and version."""
    return _parts(json.loads(RECORD.read_text())[parser])


def record() -> None:
    """Record what all of them make of L{BODIES} that are not there on every machine."""
    results = {
        GO: by_go(BODIES),
        BUSBOY: by_busboy(BODIES),
        CGI: {name: by_cgi(body) for name, body in BODIES.items()},
    }
    text = {parser: {name: _shown(parts) for name, parts in found.items()} for parser, found in results.items()}
    RECORD.write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")


def _shown(parts: Parts | None) -> object:
    return parts and [
        {"name": b64encode(name).decode(), "content": b64encode(content).decode()} for name, content in parts
    ]


def _run(command: Sequence[str], bodies: Mapping[str, bytes]) -> Mapping[str, Parts | None]:
    sent = json.dumps({name: b64encode(body).decode() for name, body in bodies.items()})
    ran = subprocess.run(command, input=sent, capture_output=True, text=True, check=True, timeout=120)
    return _parts(json.loads(ran.stdout))


def _parts(results: Mapping[str, Any]) -> Mapping[str, Parts | None]:
    return {
        name: None if parts is None else [(b64decode(part["name"]), b64decode(part["content"] or "")) for part in parts]
        for name, parts in results.items()
    }
