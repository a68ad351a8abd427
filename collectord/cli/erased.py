"""
Telling the journal and the index what was done to a crash by hand, so that an audit and the admin page do not miss it.
"""

import sqlite3
import time
from collections.abc import Sequence
from typing import Literal

from collectord.daemon.indexing import index_directory
from collectord.index.byhand import add_to_index
from collectord.model import CrashEvent
from collectord.observe.journal.files import add_lines
from collectord.observe.journal.lines import Line, journal_day, time_of
from collectord.observe.journal.writer import directory_of
from collectord.settings.schema import Settings

BY_HAND = "by hand"


ByHand = Literal["expired", "erased", "moved"]
"""A crash was removed from a store alone, or erased wherever it was, or moved to a store out of its quarantine."""


def tell(settings: Settings, crash_id: str, kind: ByHand, places: Sequence[str]) -> str:
    """
    Write a line for each of C{places} from which a crash was removed, or to which it was moved, if the daemon keeps a
    journal.

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


def tell_index(settings: Settings, done: Sequence[tuple[str, ByHand, str]]) -> str:
    """
    Write into the index what was done, if the daemon keeps one.

    @param done: of each crash its id, what was done, and the store.
    @return: why the index does not say so; empty if it does.
    """
    now = time.time()
    events = [CrashEvent(at=now, crash_id=crash_id, kind=kind, where=where) for crash_id, kind, where in done]
    stores = [str(store.root.absolute()) for store in settings.storage]
    try:
        add_to_index(index_directory(settings), stores, events, now)
    except (OSError, sqlite3.Error) as e:
        return str(e)
    return ""
