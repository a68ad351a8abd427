"""
Which crashes were erased is remembered durably, for as long as a report that comes again is recognized.
"""

import os
import time

import pytest

from collectord.storage.filesystem.receipts import ErasedReceipts, note_erased
from tests.unit.storage.stores import CRASH_ID, NEIGHBOUR, Rig, noted_syncs

DAY_S = 86400.0


def receipts(rig: Rig) -> ErasedReceipts:
    return ErasedReceipts(str(rig.root), lambda: None)


def test_it_is_remembered_durably(rig: Rig) -> None:
    assert not receipts(rig).has(CRASH_ID)
    with noted_syncs() as synced:
        note_erased([CRASH_ID, NEIGHBOUR], rig.staging)
    assert {str(rig.root), str(rig.root / "erased")} <= set(synced)
    assert receipts(rig).has(CRASH_ID)
    assert receipts(rig).has(NEIGHBOUR)


def test_it_is_forgotten_days_later(rig: Rig) -> None:
    note_erased([CRASH_ID, NEIGHBOUR], rig.staging)
    for crash_id, days in ((CRASH_ID, 3), (NEIGHBOUR, 1)):
        at = time.time() - days * DAY_S
        os.utime(rig.root / "erased" / crash_id, (at, at))
    note_erased([], rig.staging)
    assert (receipts(rig).has(CRASH_ID), receipts(rig).has(NEIGHBOUR)) == (False, True)
    os.utime(rig.root / "erased" / NEIGHBOUR, (0, 0))
    note_erased([NEIGHBOUR], rig.staging)
    assert receipts(rig).has(NEIGHBOUR)


def test_what_can_t_be_found_out_is_not_denied(rig: Rig) -> None:
    def refuse() -> None:
        raise OSError("another file system is mounted there")

    with pytest.raises(OSError, match="another"):
        ErasedReceipts(str(rig.root), refuse).has(CRASH_ID)
    (rig.root / "erased").write_text("no directory")
    with pytest.raises(NotADirectoryError):
        receipts(rig).has(CRASH_ID)
