"""
What the headers of a form and of its parts say: the boundary, and the name, the file name and the type of a part.

Clients write these headers in many ways, so whatever can be understood is read, and the rest is passed over.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from collectord.errors import MalformedReport, UnsupportedReport

_HEADER = re.compile(
    rb"\n(content-(?:disposition|type|transfer-encoding))[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE
)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_CR_ALONE = re.compile(rb"\r(?![\r\n])")  # common servers take it for the end of a line, too
# A quote that does not end takes the rest of the header, so that nothing is looked at twice.
_PARAMETER = re.compile(rb';\s*([^=;\s]+)\s*=\s*("[^"\\]*+(?:\\.[^"\\]*+)*+\\?"?|[^;]*)', re.DOTALL)
_USUAL = re.compile(
    rb'\nContent-Disposition: form-data; name="([^"\\%\r\n]*)"(?:; filename="([^"\\%\r\n]*)")?'
    rb"(?:\r?\nContent-Type: ([a-z0-9/.+-]+))?\r?"
)
_BOUNDARY = 256  # the longest; RFC 2046 says 70
_CHARSET = 40  # the characters that are kept of the name of a charset: none is longer
_OF_THE_REPORTING_API = (b"application/reports+json", b"application/csp-report")
"""What browsers send to the endpoint that a web page names. None of it has a minidump."""

_MEDIA_TYPES = (b"multipart/form-data", b"multipart/mixed")
_LATIN_1 = (b"iso-8859-1", b"latin-1", b"latin1")


class Part(NamedTuple):
    """
    A part is a piece of a form; this is what its headers say, None where they do not say it.

    @ivar name: of the field. It is latin-1 text, as C{filename} is, whatever it was sent in: see L{text_of}.
    @ivar filename: what C{filename*} says comes before what C{filename} says.
    @ivar content_type: the media type in small letters, without its parameters.
    @ivar charset: as the media type names it.
    @ivar transfer_encoding: in small letters.
    @ivar whole_type: the type as it was sent, with its parameters, if C{content_type} is not all of it. It is latin-1
        text, too.
    """

    name: str | None = None
    filename: str | None = None
    content_type: str | None = None
    charset: str | None = None
    transfer_encoding: str | None = None
    whole_type: str | None = None


def part_of(head: bytes) -> Part:
    """
    What the headers of a part say. Of a header that came twice the first counts.

    @param head: their lines, with a line feed in front of each.
    """
    if usual := _USUAL.fullmatch(head):
        return Part(*[None if value is None else value.decode("latin-1") for value in usual.groups()])
    if b"\r" in head:
        head = _CR_ALONE.sub(b"\n", head)
    headers: dict[bytes, bytes] = {}
    for key, value in _HEADER.findall(head):
        headers.setdefault(key.lower(), (_FOLD.sub(b" ", value) if b"\n" in value else value).strip())
    names = _parameters(headers.get(b"content-disposition", b""))
    content_type = headers.get(b"content-type", b"")
    whole_type = content_type.decode("latin-1")
    media_type, parameters, _ = whole_type.partition(";")
    media_type = media_type.strip().lower()
    charset = _value("charset", _parameters(content_type)) if parameters else None
    transfer_encoding = headers.get(b"content-transfer-encoding", b"").decode("latin-1").lower()
    return Part(
        name=_value("name", names),
        filename=_value("filename", names),
        content_type=media_type or None,
        charset=charset and charset[:_CHARSET],
        transfer_encoding=transfer_encoding or None,
        whole_type=None if whole_type == media_type else whole_type,
    )


def boundary_of(content_type: bytes | None) -> bytes:
    """
    The boundary that the C{Content-Type} of a form announces.

    @param content_type: the value of the header; None where there is none.
    @raise MalformedReport: C{no_content_type}, C{wrong_content_type} or C{no_boundary}.
    @raise UnsupportedReport: it is no form, but what another system sends.
    """
    if content_type is None or not content_type.strip():
        raise MalformedReport("no_content_type")
    media_type, _, _ = content_type.partition(b";")
    media_type = media_type.strip().lower()
    if media_type in _OF_THE_REPORTING_API:
        raise UnsupportedReport("reporting_api")
    if media_type not in _MEDIA_TYPES:
        raise MalformedReport("wrong_content_type")
    for name, value in _PARAMETER.findall(content_type):
        if name.lower() == b"boundary":
            boundary: bytes = value.strip()
            if boundary[:1] == b'"':
                boundary = re.sub(rb"\\(.)", rb"\1", boundary[1:].removesuffix(b'"'))
            if 0 < len(boundary) <= _BOUNDARY and b"\n" not in boundary:
                return boundary
    raise MalformedReport("no_boundary")


def text_of(header: str) -> str | None:
    """The text of a header value, which was read as latin-1 but sent as UTF-8; None where it was not UTF-8."""
    if header.isascii():
        return header
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return None


def _parameters(value: bytes) -> Mapping[bytes, bytes]:
    return {name.lower(): value.strip() for name, value in _PARAMETER.findall(value)}


def _value(name: str, parameters: Mapping[bytes, bytes]) -> str | None:
    """The parameter of that name, which may be written in one of the ways of RFC 2231."""
    key = name.encode()
    if key + b"*" in parameters:
        value: bytes | None = _decoded(parameters[key + b"*"])
    elif key in parameters:
        value = _unquoted(parameters[key])
    else:
        value = _put_together(key, parameters)
    return None if value is None else value.decode("latin-1")


def _unquoted(value: bytes) -> bytes:
    if value[:1] == b'"':
        value = value[1:].removesuffix(b'"')
        if b'\\"' in value:  # as RFC 822 has it; if a quote is written otherwise, a backslash is one of a path
            return value.replace(b"\\\\", b"\\").replace(b'\\"', b'"')
    # As browsers write these three, and no others.
    return value.replace(b"%0D", b"\r").replace(b"%0A", b"\n").replace(b"%22", b'"')


def _decoded(value: bytes) -> bytes:
    """The UTF-8 of a value such as C{UTF-8'en'%e2%82%ac}."""
    value = _unquoted(value)
    charset, _, rest = value.partition(b"'")
    _, quote, text = rest.partition(b"'")
    decoded = unquote_to_bytes(text if quote else value)
    return decoded.decode("latin-1").encode() if charset.lower() in _LATIN_1 else decoded


def _put_together(key: bytes, parameters: Mapping[bytes, bytes]) -> bytes | None:
    """The value of a parameter in pieces: C{filename*0*=UTF-8''%e2; filename*1=".txt"}."""
    value = None
    for n in range(len(parameters)):
        piece = key + b"*%d" % n
        if piece + b"*" in parameters:
            encoded = parameters[piece + b"*"]
            value = (value or b"") + (_decoded(encoded) if n == 0 else unquote_to_bytes(encoded))
        elif piece in parameters:
            value = (value or b"") + _unquoted(parameters[piece])
        else:
            break
    return value
