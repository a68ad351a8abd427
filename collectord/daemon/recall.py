"""
Recalls at the start which reports were kept before it, so that one that comes again after a restart is a duplicate.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.crashid import is_crash_id
from collectord.duplicates.table import KeptTable
from collectord.errors import TimedOut
from collectord.observe.journal.reader import lines_since
from collectord.observe.journal.writer import directory_of
from collectord.settings.schema import Settings

_log = Logger()
_LIMIT_S = 5.0
"""Seconds that clients may have to wait at a start for this; then it goes on while they are served."""


async def recall(
    table: KeptTable, settings: Settings, stores: Sequence[str], in_thread: ThreadPool, clock: IReactorTime
) -> None:
    """
    Fill C{table} by the journal, with the crashes that were kept within the window, and those that were moved since
    and not erased. Without a journal nothing is recalled. Whether a crash is still in its store is seen when its report
    comes again.

    @param stores: the names of our own stores. A crash that was moved to one of them is looked for there.
    @param in_thread: the journal is read on it, and its thread ends afterwards.
    """
    window = settings.submission.duplicate_window_s
    try:
        if window and settings.ledger.enabled:
            filling = in_thread(lambda: _fill(table, settings, stores, time.time() - window))
            await with_timeout(filling, _LIMIT_S, clock, "journal")
    except (TimedOut, OSError) as e:
        _log.warn("not all is known that was kept before, and duplicates of it may be stored: {why}", why=str(e))
    finally:
        table.set_filled()
        in_thread.close()


def _fill(table: KeptTable, settings: Settings, stores: Sequence[str], since: float) -> None:
    for line in lines_since(directory_of(settings), since, datetime.now(UTC)):
        if not is_crash_id(line.subject):
            continue
        if line.kind == "kept" and line.digest:
            table.add(bytes.fromhex(line.digest), line.subject, line.at)
        elif line.kind == "moved" and line.where not in stores:
            table.set_moved(line.subject)
        elif line.kind == "erased":
            table.set_erased(line.subject)
