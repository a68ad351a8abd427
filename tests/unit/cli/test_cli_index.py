"""
C{collectord index rebuild} lets the daemon read all crashes again, and removes a file that is damaged.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collectord.daemon.indexing import index_directory, index_sources
from collectord.index.database import open_to_read
from collectord.index.search import last_crashes
from collectord.index.writer import IndexFile, IndexLimits, index_path
from collectord.model import CrashEvent
from collectord.observe.journal.files import JournalFiles
from collectord.observe.journal.writer import directory_of
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from tests.unit.cli.command import CRASH_ID, NEIGHBOUR, keep, lines, put_aside, raw_crash_of, run

NOW = 1466608800.0
ABOUT: Mapping[str, str | int] = {"product": "Fenix", "version": "1.0", "size": 5}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "crashes").mkdir()
    monkeypatch.setenv("COLLECTORD_STORAGE__0__ROOT", str(tmp_path / "crashes"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return load_settings(None)


@pytest.fixture
def file(settings: Settings) -> Iterator[IndexFile]:
    limits = IndexLimits(keep_s=30 * 86400.0, max_bytes=1 << 30)
    file = IndexFile(index_directory(settings), [], limits, index_sources(settings))
    yield file
    file.close()


def fill(file: IndexFile) -> Sequence[tuple[str, str, str]]:
    """What a daemon does; the id, the state and the product of each crash."""
    file.write([], [], None, NOW)
    while file.tidy(NOW):
        pass
    database = open_to_read(index_path(file.directory))
    found = sorted((crash.crash_id, crash.state, crash.product) for crash in last_crashes(database, 100))
    database.close()
    return found


def test_crashes_in_the_stores_come_into_it(settings: Settings, file: IndexFile) -> None:
    assert fill(file) == []
    root = settings.storage[0].root
    keep(root, raw_crash_of(CRASH_ID, ProductName="Fenix"))
    put_aside(root, keep(root, raw_crash_of(NEIGHBOUR, ProductName="Focus"), new=False))
    assert fill(file) == []
    ran = run("index", "rebuild")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert "The index will be made again: no daemon runs; the next start does so, and its log says" in ran.stdout
    assert "The index is to be made again already: no daemon runs" in run("index", "rebuild").stdout
    told = {"path": index_path(file.directory), "damage": None, "was_asked_before": True}
    assert lines(run("index", "rebuild", "--json")) == [told]
    assert fill(file) == sorted([(CRASH_ID, "kept", "Fenix"), (NEIGHBOUR, "quarantined", "Focus")])


def test_it_is_said_whether_the_daemon_runs_that_makes_it(
    settings: Settings, file: IndexFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(file)
    journal = JournalFiles(directory_of(settings))
    journal.begin(datetime.now(UTC))
    assert "The index will be made again: the daemon runs, and does so now" in run("index", "rebuild").stdout
    journal.end(datetime.now(UTC))
    assert "no daemon runs" in run("index", "rebuild").stdout
    monkeypatch.setenv("COLLECTORD_LEDGER__ENABLED", "false")
    assert "now if it runs, or else at its next start" in run("index", "rebuild").stdout


def test_an_empty_list_says_what_was_moved(settings: Settings, file: IndexFile) -> None:
    list_day = ("crashes", "list", "--day", "20160622")
    assert run(*list_day).stderr == ""
    kept = [CrashEvent(at=NOW, crash_id=each, kind="kept", where="/a", about=ABOUT) for each in (CRASH_ID, NEIGHBOUR)]
    moved = [CrashEvent(at=NOW, crash_id=each, kind="moved", where="s3://b") for each in (CRASH_ID, NEIGHBOUR)]
    file.write([*kept, *moved], [], None, NOW)
    said = "collectord: 2 crashes of 20160622 were moved, by the index: collectord audit 20160622 says where to"
    assert run(*list_day).stderr.startswith(said)
    assert run(*list_day, "--json", "--product", "Fenix").stderr.startswith(said)
    for more in (["--product", "Fo cus"], ["--new"], ["--day", "20160623"], ["--store", str(settings.storage[0].root)]):
        assert run(*list_day, *more).stderr == ""
    assert run("crashes", "list").stderr == ""  # of today
    keep(settings.storage[0].root)
    assert run(*list_day).stderr == ""


def test_a_damaged_file_is_removed(settings: Settings, file: IndexFile) -> None:
    fill(file)
    file.close()
    path = Path(index_path(file.directory))
    path.write_bytes(b"no database" * 1000)
    ran = run("index", "rebuild")
    assert ran.exit_code == 0
    assert "was damaged (file is not a database), and is removed" in ran.stdout
    assert not path.exists()
    keep(settings.storage[0].root)
    assert [crash_id for crash_id, _, _ in fill(file)] == [CRASH_ID]


def test_what_can_not_be_done_is_told(settings: Settings, file: IndexFile, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no index yet" in run("index", "rebuild").stderr
    fill(file)
    with monkeypatch.context() as patch:
        patch.setattr("os.geteuid", lambda: 12345)
        ran = run("index", "rebuild")
    assert (ran.exit_code, "only the user of the daemon can do that" in ran.stderr) == (2, True)
    with monkeypatch.context() as patch:
        patch.setattr("collectord.cli.index.empty_index", locked)
        assert "database is locked" in run("index", "rebuild").stderr
    monkeypatch.setenv("COLLECTORD_INDEX__ENABLED", "false")
    assert "[index] enabled is false" in run("index", "rebuild").stderr


def locked(directory: str) -> bool:
    raise sqlite3.OperationalError("database is locked")
