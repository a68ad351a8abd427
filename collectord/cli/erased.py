"""
Telling the journal that a crash was removed or erased by hand, so that an audit does not miss it.
"""

import time
from collections.abc import Sequence
from typing import Literal

from collectord.observe.journal.files import add_lines
from collectord.observe.journal.lines import Line, journal_day, time_of
from collectord.observe.journal.writer import directory_of
from collectord.settings.schema import Settings

BY_HAND = "by hand"


def tell(settings: Settings, crash_id: str, kind: Literal["expired", "erased"], places: Sequence[str]) -> str:
    """
    Write a line for each of C{places} from which a crash was removed, if the daemon keeps a journal.

    @param kind: it was removed from a store alone, or erased wherever it was.
    @return: why the journal does not say so; empty if it does.
    """
    if not settings.ledger.enabled or not places:
        return ""
    now = time_of(time.time())
    why = BY_HAND if kind == "expired" else ""
    try:
        lines = [Line(now, kind, crash_id, place, place=why) for place in places]
        add_lines(directory_of(settings), journal_day(crash_id), lines)
    except FileNotFoundError:
        return ""  # no daemon has written one yet
    except OSError as e:
        return str(e)
    return ""
