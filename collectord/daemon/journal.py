"""
The journal of a daemon, made from its settings.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from collectord.observe.journal.writer import JournalWriter, directory_of
from collectord.settings.schema import Settings
from collectord.storage.chain.backend import Backend


def make_journal(settings: Settings, backends: Sequence[Backend], reactor: Any) -> JournalWriter | None:
    """
    Make the service that writes the journal; None if the settings want no journal.

    @param backends: the stores, in one of which the journal's directory may lie.
    """
    if not settings.ledger.enabled:
        return None
    directory = directory_of(settings)
    around = [backend for backend in backends if directory.is_relative_to(backend.name)]
    return JournalWriter(
        directory=directory,
        keep_days=settings.ledger.keep_days,
        clock=reactor,
        call_from_thread=reactor.callFromThread,
        now=partial(datetime.now, UTC),
        refuse_other=partial(_refuse_others, around),
    )


def _refuse_others(backends: Sequence[Backend]) -> None:
    """
    Check that the stores around the journal's directory are there: it would be made in an empty mount point.

    @raise OSError: something else is in a store's place.
    """
    for backend in backends:
        backend.refuse_other()
