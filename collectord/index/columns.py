"""
How a crash is written as a row of the index, and read again.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import define, fields

from collectord.index.values import CrashState, IndexedCrash

TRAITS: Final = ("product", "version", "fingerprint", "place", "exception", "cpu", "os", "rule", "minidump", "store")
"""What many crashes have in common."""


@define
class CrashRow:
    """
    A row of the table C{crashes}.

    @ivar at: when it was kept, in milliseconds since the epoch, as C{changed}.
    @ivar traits: those of L{TRAITS}.
    @ivar moved_to: with an end of line after each, as C{keys} and C{published_to}.
    """

    at: int
    id: bytes
    traits: tuple[str, ...]
    uptime_s: int | None = None
    size: int | None = None
    state: CrashState = "kept"
    is_here: int = 1
    moved_to: str = ""
    keys: str = ""
    published_to: str = ""
    why: str = ""
    changed: int = 0
    annotations: str = ""


COLUMNS: Final = tuple(field.name for field in fields(CrashRow))
"""The columns of the table C{crashes}."""

_OWN = [name for name in COLUMNS if name != "traits"]
CHOSEN: Final = ", ".join([*(f"crashes.{name}" for name in _OWN), *(f"traits.{name}" for name in TRAITS)])
"""What L{row_of} and L{crashes_of} need, in SQL."""
JOINED: Final = "crashes CROSS JOIN traits ON traits.number = crashes.traits"
"""The tables that it comes from. Crashes are looked at in their order."""


def row_of(columns: tuple[object, ...]) -> CrashRow:
    """Return the row that was read as L{CHOSEN}."""
    own, traits = columns[: len(_OWN)], columns[len(_OWN) :]
    return CrashRow(traits=traits, **dict(zip(_OWN, own, strict=True)))  # type: ignore[arg-type]


def crashes_of(rows: Iterable[tuple[object, ...]]) -> Iterator[IndexedCrash]:
    """Return the crashes of rows that were read as L{CHOSEN}."""
    for columns in rows:
        row = row_of(columns)
        yield IndexedCrash(
            crash_id=id_of(row.id),
            at=row.at / 1000,
            uptime_s=row.uptime_s,
            size=row.size,
            state=row.state,
            is_here=bool(row.is_here),
            moved_to=tuple(names_in(row.moved_to)),
            keys=tuple(names_in(row.keys)),
            published_to=tuple(names_in(row.published_to)),
            why=row.why,
            changed=row.changed / 1000,
            **dict(zip(TRAITS, row.traits, strict=True)),
        )


def names_in(lines: str) -> list[str]:
    """Return the names that are in a text with an end of line after each."""
    return lines.split("\n")[:-1]


def id_bytes(crash_id: str) -> bytes:
    """Return the 16 bytes of a crash id."""
    return bytes.fromhex(crash_id.replace("-", ""))


def id_of(blob: bytes) -> str:
    """Undo L{id_bytes}."""
    digits = blob.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def milliseconds(at: float) -> int:
    """Return a time, given in seconds since the epoch, as the journal has it, too."""
    return round(at * 1000)
