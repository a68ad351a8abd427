"""
How the body of a report is read: by what its dialect takes, and by its Content-Type.
"""

from collections.abc import Callable, Sequence

from attrs import evolve, frozen

from collectord.dialects.row import Dialect
from collectord.intake.bodyparser import BodyParser
from collectord.intake.codings import CODINGS, Coding
from collectord.intake.envelope import EnvelopeParser
from collectord.intake.formdata import FormDataParser
from collectord.intake.partheaders import boundary_of
from collectord.intake.rawdump import RawDumpParser
from collectord.intake.unpacking import UnpackingParser
from collectord.intake.unreal import BEGIN, UnrealParser
from collectord.model import MINIDUMP_BEGIN


@frozen
class BodyFormat:
    """
    How one body is read.

    @ivar parser: splits it into its parts.
    @ivar plain_begins: how it may begin if it is not encoded.
    @ivar codings: that it is in, though no header says so.
    """

    parser: BodyParser
    plain_begins: tuple[bytes, ...]
    codings: Sequence[Coding] = ()


def format_of(dialect: Dialect, content_type: bytes | None, limit: int, reserve: Callable[[int], None]) -> BodyFormat:
    """
    Return how a body is read.

    @param limit: bytes that files in it may have when they are unpacked.
    @param reserve: called with bytes of memory that are needed to unpack them. It may raise.

    @raise MalformedReport: it has to be multipart, and its type is another.
    """
    if dialect.body == "dump" or (dialect.body == "multipart or dump" and not _is_multipart(content_type)):
        found = BodyFormat(RawDumpParser(), (MINIDUMP_BEGIN,))
    elif dialect.body == "envelope":
        found = BodyFormat(EnvelopeParser(), (b'{"', b"{}", b"{ "))
    elif dialect.body == "unreal":
        found = BodyFormat(UnrealParser(), (BEGIN,), (CODINGS[b"deflate"],))
    else:
        boundary = boundary_of(content_type)
        found = BodyFormat(FormDataParser(boundary), _begins_of_form(boundary))
    if dialect.unpack:
        return evolve(found, parser=UnpackingParser(found.parser, limit, reserve))
    return found


def _begins_of_form(boundary: bytes) -> tuple[bytes, ...]:
    return (b"--" + boundary, b"\r\n--" + boundary, b"\n--" + boundary)


def _is_multipart(content_type: bytes | None) -> bool:
    return content_type is not None and content_type.strip().lower().startswith(b"multipart/")
