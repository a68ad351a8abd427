"""
What the index of the daemon knows of crashes that are in no store any more, for a list that is empty.
"""

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from collectord.cli.shared import counted, say
from collectord.daemon.indexing import index_directory
from collectord.index.database import asking, open_to_read
from collectord.index.query import written
from collectord.index.search import search
from collectord.index.writer import index_path
from collectord.settings.loading import load_settings

_STEPS = 100_000_000
"""How much sqlite may do: about a second."""


def say_what_was_moved(config: Path | None, day: str, wanted: Mapping[str, str]) -> None:
    """
    Say how many crashes of a day were moved, and what shows where they went; nothing if the index knows of none.

    @param day: C{yyyymmdd}.
    @param wanted: what they have to have, by the names of a search.
    """
    words = {"state": "moved", "day": f"{day[:4]}-{day[4:6]}-{day[6:]}", **wanted}
    query = " ".join(written(name, value) for name, value in words.items())
    try:
        opened = open_to_read(index_path(index_directory(load_settings(config))))
        with closing(opened) as database, asking(database, _STEPS):
            moved = search(database, query, "", 1, time.monotonic).count
    except sqlite3.Error:
        return  # Nothing is known: there is no index yet, or it is being made anew.
    if moved:
        crashes, are = counted(moved, "crash", "crashes"), "was" if moved == 1 else "were"
        say(
            f"{crashes} of {day} {are} moved, by the index: collectord audit {day} says where to, "
            "and collectord crashes show ID of one of them"
        )
