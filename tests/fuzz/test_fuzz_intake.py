"""
Fuzzes the whole intake: whatever is sent, what is kept of it does not depend on how it came, and is what was meant.

Each input follows from a number. They are tried one after another, from a random one on, until the time is over.
C{SEED=7 make fuzz} begins with number 7, and C{SECONDS=600 make fuzz} goes on for ten minutes.
"""

import os
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import count
from random import Random, SystemRandom
from time import monotonic

import multipart
import pytest
from attrs import evolve

from collectord.intake.formdata import FormDataParser
from collectord.intake.partheaders import Part, boundary_of
from collectord.intake.receiver import Limits
from collectord.model import COLLECTOR_NAMES, RawCrash, metadata_of
from tests.fuzz.damage import damaged, damaged_body
from tests.fuzz.forms import Form, Sent, compressed, make_form
from tests.fuzz.intake import Refused, Request, Taken, keep, relayed, take
from tests.support.formevents import in_pieces

_SECONDS = float(os.environ.get("SECONDS") or 50)
_SEED = int(os.environ.get("SEED") or SystemRandom().randrange(10**12))

_ROOMY = Limits(read=10_000_000, body=1_000_000, parts=1000, annotations=100_000)
_QUERIES = (b"", b"", b"a=1&a=2&%00=%ff", b"product=x&version=%e9&guid=&&=1&b+c=%2g")


@pytest.mark.slow
def test_whatever_is_sent() -> None:
    ends, tried = monotonic() + _SECONDS, 0
    for seed in count(_SEED):
        try:
            _try_as_it_should_be(Random(seed))
            _try_damaged(Random(seed))
        except Exception as e:
            raise AssertionError(f"SEED={seed} make fuzz begins with this one") from e
        tried += 1
        if monotonic() > ends:
            break
    print(f"{tried} reports as they should be, and as many damaged ones, from SEED={_SEED} on")


def _try_as_it_should_be(chance: Random) -> None:
    form = make_form(chance)
    request = Request(
        body=form.sent.body,
        content_type=form.sent.content_type,
        limits=_ROOMY,
        memory=chance.choice((0, 10_000, 1_000_000)),
    )
    if chance.random() < 0.3:
        encoding, body = compressed(chance, request.body)
        request = evolve(request, body=body, encoding=encoding)
    taken = _taken_any_way(request, chance)
    assert isinstance(taken, Taken), taken
    _check_form(form, taken)
    _check_relay(taken, request.limits, chance)
    request = evolve(
        request, limits=evolve(_ROOMY, body=chance.randint(4, 4 + sum(len(file.content) for file in form.files)))
    )
    taken = _taken_any_way(request, chance)
    if isinstance(taken, Taken):
        _check_limits(request, taken)


def _try_damaged(chance: Random) -> None:
    sent = damaged(chance, make_form(chance).sent)
    request = Request(
        body=damaged_body(chance, sent.body, sent.boundary),
        content_type=sent.content_type,
        query=chance.choice(_QUERIES),
        limits=chance.choice((_ROOMY, _narrow(chance, sent))),
        memory=chance.choice((0, 10_000, 1_000_000)),
    )
    _check_parts(request)
    if chance.random() < 0.2:
        encoding, body = compressed(chance, request.body)
        request = evolve(request, body=damaged_body(chance, body, sent.boundary), encoding=encoding)
    taken = _taken_any_way(request, chance)
    if isinstance(taken, Taken):
        _check_limits(request, taken)
        _check_notes(request, taken)
        _check_relay(taken, request.limits, chance)


def _narrow(chance: Random, sent: Sent) -> Limits:
    sizes = [len(part) for part in sent.parts]
    return Limits(
        read=chance.choice((10_000, 100_000)),
        body=10 + chance.randint(0, chance.choice((0, max(sizes, default=0), sum(sizes)))),
        parts=chance.choice((1, 2, 5, 100)),
        annotations=chance.choice((0, 10, 100, 1000)),
        items=chance.choice((1, 10, 1000)),
        levels=chance.choice((1, 10)),
    )


def _taken_any_way(request: Request, chance: Random) -> Taken | Refused:
    """What is made of it, which is the same however its bytes come."""
    whole = take(request, [request.body], chance)
    for pieces in _splits(request.body, chance):
        taken = take(request, pieces, chance)
        assert taken == whole or _are_both_refused(whole, taken), [len(piece) for piece in pieces]
    return whole


def _are_both_refused(*results: Taken | Refused) -> bool:
    """
    Whether they are refused for reasons of which one is as good as the other.

    If a body is too large, or its compressed bytes are damaged, then it depends on how the bytes come whether that is
    noticed first, or something else that is wrong with it.
    """
    reasons = [result.reason if isinstance(result, Refused) else "" for result in results]
    return all(reasons) and any(reason == "too_large" or reason.startswith("bad_") for reason in reasons)


def _splits(body: bytes, chance: Random) -> Iterator[Sequence[bytes]]:
    if len(body) < 1500:
        yield [body[at : at + 1] for at in range(len(body))]
    for most in (1, 30):
        ends = sorted(chance.choices(range(len(body) + 1), k=chance.randint(1, most)))
        yield [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


def _check_form(form: Form, taken: Taken) -> None:
    """A report as it should be is kept as it was meant, without a word about it."""
    assert taken.annotations == form.annotations
    assert taken.dumps == [(file.name, file.filename, file.content_type, file.content) for file in form.files]
    assert taken.notes == ([] if form.annotations else ["repaired: the report came without annotations"])


def _check_limits(request: Request, taken: Taken) -> None:
    limits = request.limits
    assert sum(len(content) for *_, content in taken.dumps) <= limits.body
    # A byte that is no text becomes U+FFFD, which has three; and what has no name gets one.
    size = sum(len(name.encode()) + len(value.encode()) for name, value in taken.annotations.items())
    assert size <= 3 * limits.annotations + (64 + 20) * 3 * limits.parts
    assert len(taken.dumps) <= limits.parts + 2  # after the others a minidump, and then one by its name


def _check_parts(request: Request) -> None:
    """What another parser takes, which is strict, is taken the same way."""
    theirs = _read_strictly(request)
    if theirs is not None:
        assert [content for _, content in _parts(request)] == [part.raw for part in theirs]


def _check_notes(request: Request, taken: Taken) -> None:
    """If nothing is noted, then each part is kept."""
    theirs = None if taken.notes or request.encoding else _read_strictly(request)
    if theirs is None or any(part.name == "_charset_" for part in theirs):
        return
    dumps = [content for *_, content in taken.dumps]
    for part in theirs:
        if part.headers.get("Content-Transfer-Encoding") is not None or part.raw == b"":
            continue
        if part.filename and part.name != "extra":
            assert part.raw in dumps
        elif not part.filename and "Content-Type" not in part.headers:
            assert part.raw in dumps or part.raw.decode() in taken.annotations.values()


def _parts(request: Request) -> list[tuple[Part, bytes]]:
    parser, parts = FormDataParser(boundary_of(request.content_type)), []
    for event in in_pieces((*parser.parse(request.body), *parser.close())):
        if isinstance(event, Part):
            parts.append((event, b""))
        elif event is not None:
            part, content = parts.pop()
            parts.append((part, content + event))
    return parts


def _read_strictly(request: Request) -> list[multipart.MultipartPart] | None:
    """None if that parser does not take it, or if we also take line ends which it does not."""
    boundary = boundary_of(request.content_type)
    if re.search(rb"((?<!\r)\n|\r\n\r\n)--" + re.escape(boundary), request.body):
        return None
    try:
        return list(multipart.MultipartParser(BytesIO(request.body), boundary.decode(), strict=True))
    except multipart.MultipartError:
        return None


def _check_relay(taken: Taken, limits: Limits, chance: Random) -> None:
    """What a relay sends on is kept as it was by the first collector."""
    crash = keep(taken.report)
    request = relayed(crash, limits, chance)
    arrived = take(request, [request.body], chance)
    assert isinstance(arrived, Taken), arrived
    again = keep(arrived.report)
    assert again.crash_id == crash.crash_id
    assert _annotations(again.raw_crash) == _annotations(crash.raw_crash)
    assert [(name, content) for name, _, _, content in arrived.dumps] == [
        (name, content) for name, _, _, content in taken.dumps
    ]
    assert arrived.notes == []
    notes, sent = metadata_of(crash.raw_crash)["collector_notes"], metadata_of(again.raw_crash)["collector_notes"]
    assert sent == notes or "earlier collector" in str(sent)
    for before, now in zip(taken.report.dumps, arrived.report.dumps, strict=True):
        assert now.filename == (before.filename or before.name)
        content_type = before.content_type or ""
        if re.fullmatch(r"(?!application/json)[a-z0-9+.-]+/[a-z0-9+.-]+( ?;[ -~]*)?", content_type, re.IGNORECASE):
            assert now.content_type == content_type


def _annotations(raw_crash: RawCrash) -> RawCrash:
    return {name: value for name, value in raw_crash.items() if name not in COLLECTOR_NAMES}
