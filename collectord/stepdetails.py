"""
What is told of one step of a crash besides that it happened: how long it took, and which dumps were kept.

It is one text, which the journal keeps as it is: nothing but the page of the crash reads it. It has words with a space
between them, such as C{took=4 received=812 dumps=upload_file_minidump:1284096:minidump,log:18200:text/plain}.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice

from attrs import frozen

from collectord.model import Crash, Dump, metadata_of

MINIDUMP_KIND = "minidump"
"""The kind of a dump that was received as a minidump, by its name or its first bytes."""

_DUMPS = 8
"""The most dumps that are told of a crash."""
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,40}")
_SAYS_NOTHING = "application/octet-stream"


@frozen
class DumpTold:
    """
    One dump, as it was received.

    @ivar size: in bytes.
    @ivar kind: L{MINIDUMP_KIND}, or its media type as the client said it; empty: neither is known.
    """

    name: str
    size: int
    kind: str = ""


@frozen(kw_only=True)
class StepDetails:
    """
    The details of one step. What is not known is None, or empty.

    @ivar took_ms: how long it took, in milliseconds: until a crash was durable, or until a sink had confirmed it.
    @ivar received_ms: how long the client took to send a crash that is kept.
    @ivar failures: how often a crash could not be moved before, as far as the process that moved it knows.
    @ivar seen: how many reports of its kind a rule with a rate had counted with this one, and C{kept} how many of them
        it had kept.
    @ivar dumps: of a crash that is kept.
    @ivar more_dumps: how many more it has.
    """

    took_ms: int | None = None
    received_ms: int | None = None
    failures: int = 0
    seen: int | None = None
    kept: int | None = None
    dumps: Sequence[DumpTold] = ()
    more_dumps: int = 0


NO_DETAILS = StepDetails()


def kept_details(crash: Crash, began: float, took_s: float) -> str:
    """
    Write the details of a crash that is kept.

    @param began: when it began to be saved, by the clock of C{crash.began}.
    @param took_s: for how many seconds it was saved.
    """
    words = [f"took={took_s * 1000:.0f}"]
    if crash.began is not None:
        words.append(f"received={(began - crash.began) * 1000:.0f}")
    sampled, dumps = metadata_of(crash.raw_crash).get("sampled"), crash.dumps
    if isinstance(sampled, Mapping):
        words.append(f"sampled={sampled['seen']:.0f}/{sampled['kept']:.0f}")
    if dumps:
        told = [f"{dump.name}:{dump.size}:{_kind(dump)}" for dump in islice(dumps, _DUMPS)]
        words.append(f"dumps={','.join(told)}")
    if len(dumps) > _DUMPS:
        words.append(f"more={len(dumps) - _DUMPS}")
    return " ".join(words)


def sent_details(took_s: float, failures: int) -> str:
    """Write the details of a crash that a destination or a publisher has confirmed."""
    return f"took={took_s * 1000:.0f} failures={failures}" if failures else f"took={took_s * 1000:.0f}"


def _kind(dump: Dump) -> str:
    return MINIDUMP_KIND if dump.is_minidump else _media_type(dump.content_type or "")


@lru_cache(maxsize=256)
def _media_type(content_type: str) -> str:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type if media_type != _SAYS_NOTHING and _MEDIA_TYPE.fullmatch(media_type) else ""


def read_details(text: str) -> StepDetails:
    """Return what a text of this form says. What can't be understood is left out."""
    words = dict(word.split("=", 1) for word in text.split(" ") if "=" in word)
    seen, _, kept = words.get("sampled", "").partition("/")
    return StepDetails(
        took_ms=_number(words.get("took", "")),
        received_ms=_number(words.get("received", "")),
        failures=_number(words.get("failures", "")) or 0,
        seen=_number(seen),
        kept=_number(kept),
        dumps=tuple(_dumps(words.get("dumps", ""))),
        more_dumps=_number(words.get("more", "")) or 0,
    )


def has_no_minidump(text: str) -> bool:
    """Tell whether a crash that is kept is known to have come without a minidump."""
    details = read_details(text)
    return not details.more_dumps and all(dump.kind != MINIDUMP_KIND for dump in details.dumps)


def _dumps(text: str) -> Iterator[DumpTold]:
    for dump in text.split(","):
        with suppress(ValueError):
            name, size, kind = dump.split(":")
            yield DumpTold(name, int(size), kind)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
