"""
What werkzeug, Go, Python's cgi and busboy make of odd bodies: where two of them take one in the same way, so do we.
"""

from collectord.errors import MalformedReport
from collectord.intake.formdata import FormDataParser
from collectord.intake.partheaders import Part
from tests.support.cases import for_each
from tests.support.formevents import in_pieces
from tests.support.otherparsers import BODIES, BUSBOY, CGI, GO, Parts, by_werkzeug, recorded

RECORDED = [recorded(parser) for parser in (GO, BUSBOY, CGI)]

OTHERWISE = {
    "a byte order mark before": [(b"a", b"1"), (b"next", b"2")],  # others lose the first part
    "a blank before the colon": [(b"a", b"1"), (b"next", b"2")],  # others lose the name
    "a part without a blank line": [(b"a", b""), (b"next", b"2")],  # others lose the second name
}
"""Where we take more than those of them that agree."""


def ours(body: bytes) -> Parts | None:
    parser = FormDataParser(b"xyzzy")
    parts: list[tuple[bytes, bytes]] = []
    try:
        for events in (parser.parse(body), parser.close()):
            for event in in_pieces(events):
                if isinstance(event, Part):
                    parts.append(((event.name or "").encode("latin-1"), b""))
                elif event is not None:
                    name, content = parts.pop()
                    parts.append((name, content + event))
    except MalformedReport:
        return None
    return parts


@for_each("name", BODIES)
def test_where_two_take_it_we_do(name: str) -> None:
    theirs = [by_werkzeug(BODIES[name]), *(record[name] for record in RECORDED)]
    agreed = [parts for parts in theirs if parts is not None and theirs.count(parts) > 1]
    if name in OTHERWISE:
        assert ours(BODIES[name]) == OTHERWISE[name]
        assert OTHERWISE[name] not in agreed
    elif agreed:
        assert ours(BODIES[name]) in agreed


@for_each("name", [name for name, body in BODIES.items() if b"xyzzy\r\n" in body])
def test_what_none_of_them_takes_is_kept(name: str) -> None:
    """Each of these bodies has something in it, and the second part of most is well-formed."""
    assert ours(BODIES[name])
