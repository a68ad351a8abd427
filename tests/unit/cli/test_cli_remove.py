"""
Crashes are removed by their age, and erased wherever they are; the journal says so.
"""

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from collectord.daemon.indexing import index_directory
from collectord.index.database import open_to_read
from collectord.index.gap import IndexSources
from collectord.index.writer import IndexFile, IndexLimits, index_path
from collectord.model import CrashEvent
from collectord.observe.journal.reader import Journal
from collectord.settings.loading import load_settings
from collectord.storage.filesystem.claims import take_out
from collectord.storage.filesystem.erasing import erase
from collectord.storage.filesystem.receipts import ErasedReceipts
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.versions import mark_as_confirmed
from tests.support.fakereactor import FakeReactor
from tests.unit.cli.command import CRASH_ID, NEIGHBOUR, STRANGER, keep, lines, put_aside, raw_crash_of, run
from tests.unit.intake.parts import result_of
from tests.unit.storage.stores import die, sweep_store

pytestmark = pytest.mark.usefixtures("threads_at_once")

OLD = 1466608789.0
DAY = "20160622"


@define
class Place:
    """Two stores, a journal and destinations."""

    path: Path
    destinations: str = ""

    def __attrs_post_init__(self) -> None:
        for name in ("primary", "second", "ledger", "there"):
            (self.path / name).mkdir()

    @property
    def primary(self) -> Path:
        return self.path / "primary"

    @property
    def second(self) -> Path:
        return self.path / "second"

    @property
    def there(self) -> Path:
        return self.path / "there"

    def config(self) -> Path:
        file = self.path / "collectord.toml"
        stores = "".join(f'[[storage]]\nroot = "{root}"\n' for root in (self.primary, self.second))
        file.write_text(f'{stores}[ledger]\ndirectory = "{self.path}/ledger"\n{self.destinations}')
        return file

    def told(self, day: str = DAY, kind: str = "erased") -> list[tuple[str, str]]:
        """The ids and places in the lines about what was erased."""
        return [(line.subject, line.where) for line in Journal(self.path / "ledger", day) if line.kind == kind]

    def run(self, *args: object) -> Any:
        return run("crashes", *args, "--config", self.config())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("collectord.cli.erase.run_in_reactor", lambda work: result_of(work(FakeReactor())))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return Place(tmp_path)


def keep_old(root: Path, crash_id: str = CRASH_ID, *, new: bool = False, at: float = OLD) -> None:
    found = keep(root, raw_crash_of(crash_id), new=new)
    os.utime(found.raw_crash, (at, at))


def files(root: Path) -> list[str]:
    """Of crashes, wherever in the store they are."""
    found = (path for path in root.rglob("*") if path.name.startswith(("8f63", "0bf1")) and not path.is_dir())
    return sorted(path.name for path in found if path.parent.name != "erased")


# ——— by age ———


def test_old_crashes_are_removed(place: Place) -> None:
    keep_old(place.primary)
    keep_old(place.second, STRANGER)
    keep_old(place.primary, NEIGHBOUR, at=time.time())  # it came late
    removed = place.run("remove", "--older-than", 30, "--yes")
    assert (removed.exit_code, removed.stderr) == (0, "")
    assert removed.stdout == (f"{CRASH_ID}: removed from {place.primary}\n{STRANGER}: removed from {place.second}\n")
    assert {name[:36] for name in files(place.primary)} == {NEIGHBOUR}
    assert files(place.second) == []
    assert place.told(kind="expired") == [(CRASH_ID, str(place.primary))]
    assert place.told("20160623", "expired") == [(STRANGER, str(place.second))]
    assert place.run("remove", "--older-than", 30).stdout == "no crash is so old\n"
    assert place.run("remove", "--older-than", 30000, "--yes").stdout == "no crash is so old\n"


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_what_waits_stays_unless_it_is_wanted(place: Place, enabled: str) -> None:
    place.destinations = (
        f'[crashmover]\nenabled = {enabled}\n[[crashmover.destination]]\ntype = "filesystem"\nroot = "{place.there}"\n'
    )
    keep_old(place.primary, new=True)
    put_aside(place.primary, keep(place.primary, raw_crash_of(NEIGHBOUR), new=False))
    for path in (place.primary / "quarantine").rglob("*.json"):
        os.utime(path, (OLD, OLD))
    assert place.run("remove", "--older-than", 30).stdout == "no crash is so old\n"
    removed = place.run("remove", "--older-than", 30, "--waiting", "--yes")
    assert len(removed.stdout.splitlines()) == 2
    assert files(place.primary) == []


def test_what_waits_stays_however_its_store_is_named(place: Place, tmp_path: Path) -> None:
    """In the settings, or by --store; also a store that these settings do not know."""
    place.destinations = f'[[crashmover.destination]]\ntype = "filesystem"\nroot = "{place.there}"\n'
    keep_old(place.primary, new=True)
    keep_old(place.there, STRANGER, new=True)
    config = place.config()
    config.write_text(config.read_text().replace(f'"{place.primary}"', f'"{place.second}/../primary"'))
    assert run("crashes", "remove", "--older-than", 30, "--config", config).stdout == "no crash is so old\n"
    link = tmp_path / "link"
    link.symlink_to(place.primary)
    for store in (place.primary, link, place.there):
        assert place.run("remove", "--older-than", 30, "--store", store).stdout == "no crash is so old\n"
    assert files(place.primary) != []


def test_a_crash_that_waits_and_can_t_be_read_stays(place: Place) -> None:
    """The crashmover tries it again, or puts it into the quarantine."""
    place.destinations = f'[[crashmover.destination]]\ntype = "filesystem"\nroot = "{place.there}"\n'
    keep_old(place.primary, new=True)
    [raw_crash] = place.primary.rglob(f"{CRASH_ID}.json")
    raw_crash.write_text("{")
    os.utime(raw_crash, (OLD, OLD))
    assert place.run("remove", "--older-than", 30).stdout == "no crash is so old\n"


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[str], None]]:
    """What happens just before a crash is taken out, by its id."""
    happens: dict[str, Callable[[str], None]] = {}

    def take(staging: StagingDirectory, crash_id: str, raw_crash: str, *args: Any) -> None:
        happens.get(crash_id, lambda raw_crash: None)(raw_crash)
        take_out(staging, crash_id, raw_crash, *args)

    monkeypatch.setattr("collectord.storage.filesystem.removal.take_out", take)
    return happens


def test_an_old_crash_that_is_confirmed_at_this_moment_stays(
    place: Place, one_by_one: dict[str, Callable[[str], None]]
) -> None:
    """Whoever was told that it is kept may remove the last other copy. One that is gone by now needs no removal."""
    for crash_id in (CRASH_ID, NEIGHBOUR, STRANGER):
        keep_old(place.primary, crash_id)
    one_by_one.update({CRASH_ID: mark_as_confirmed, NEIGHBOUR: os.unlink})
    removed = place.run("remove", "--older-than", 30, "--yes")
    assert (removed.exit_code, removed.stdout) == (1, f"{STRANGER}: removed from {place.primary}\n")
    assert f"{CRASH_ID}: not removed, or only in part: [Errno 16] it has changed since it was read" in removed.stderr
    assert CRASH_ID in {name[:36] for name in files(place.primary)}
    assert [path.name for path in (place.primary / "staging").iterdir() if path.name != "lock"] == []


def test_what_a_kill_leaves_of_an_old_crash_is_swept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def be_killed(*args: object, **kwargs: object) -> None:
        raise Killed

    keep_old(place.primary)
    with monkeypatch.context() as patched:
        patched.setattr(StagingDirectory, "remove", die)
        patched.setattr("collectord.storage.filesystem.removal.remove_rest", be_killed)
        with pytest.raises(Killed):
            place.run("remove", "--older-than", 30, "--yes")
    assert [name for name in files(place.primary / DAY) if name.endswith(".dump")]
    sweep_store(place.primary)
    assert files(place.primary) == []


def test_a_copy_in_the_quarantine_stays_unless_it_is_wanted(place: Place) -> None:
    put_aside(place.primary, keep(place.primary, new=False))
    keep_old(place.primary)
    assert place.run("remove", "--older-than", 30, "--yes").exit_code == 0
    assert files(place.primary / DAY) == []
    assert files(place.primary / "quarantine") != []


def test_old_ones_are_asked_for(place: Place) -> None:
    keep_old(place.primary)
    asked = run("crashes", "remove", "--older-than", 30, "--config", place.config(), stdin="n\n")
    assert "Remove 1 crash from" in asked.stderr
    assert asked.exit_code == 1
    assert files(place.primary) != []


def test_ids_and_an_age_do_not_go_together(place: Place) -> None:
    assert "Name crashes, or give --older-than." in place.run("remove", CRASH_ID, "--older-than", 3).stderr


# ——— everywhere ———


def everywhere(place: Place) -> None:
    """A crash in both stores, in a quarantine, still to be published, and at a destination that is a file system."""
    place.destinations = f'[[crashmover.destination]]\ntype = "filesystem"\nroot = "{place.there}"\n'
    put_aside(place.second, keep(place.second, new=False))
    for root in (place.primary, place.second, place.there):
        keep(root)
        keep(root, raw_crash_of(NEIGHBOUR))
    for part in ("20160622T1519", "refused"):
        directory = place.primary / "unpublished" / "redis" / part
        directory.mkdir(parents=True)
        (directory / f"{CRASH_ID}.json").write_text("{}")
        (directory / f"{NEIGHBOUR}.json").write_text("{}")


def test_a_crash_is_erased_everywhere(place: Place) -> None:
    everywhere(place)
    erased = place.run("erase", f"bp-{CRASH_ID}", "--yes", "--json")
    assert (erased.exit_code, erased.stderr) == (0, "")
    places = [str(place.second), str(place.primary), str(place.there)]
    assert lines(erased) == [{"crash_id": CRASH_ID, "erased": places, "left": {}}]
    for root in (place.primary, place.second, place.there):
        assert {name[:36] for name in files(root)} == {NEIGHBOUR}
    assert place.told() == [(CRASH_ID, where) for where in places]
    for root in (place.primary, place.second):  # their order may change
        receipts = ErasedReceipts(str(root), lambda: None)
        assert (receipts.has(CRASH_ID), receipts.has(NEIGHBOUR)) == (True, False)
    again = place.run("erase", CRASH_ID, "--yes")
    assert (again.exit_code, again.stderr) == (1, f"collectord: {CRASH_ID}: found nowhere\n")


def test_the_index_knows_what_is_removed(place: Place) -> None:
    keep(place.primary)
    settings = load_settings(place.config())
    kept = CrashEvent(at=OLD, crash_id=CRASH_ID, kind="kept", where=str(place.primary))
    limits = IndexLimits(keep_s=1e12, max_bytes=1 << 30)
    index = IndexFile(index_directory(settings), [], limits, IndexSources(lambda since: iter(())))
    index.write([kept], [], None, OLD)
    assert place.run("remove", CRASH_ID, "--yes").exit_code == 0
    with closing(open_to_read(index_path(index_directory(settings)))) as database:
        assert database.execute("SELECT state, is_here FROM crashes").fetchall() == [("expired", 0)]
    index.close()
    keep(place.primary)
    Path(index_path(index_directory(settings))).write_text("no index " * 1000)
    removed = place.run("remove", CRASH_ID, "--yes")
    assert removed.exit_code == 1
    assert "removed, but the index does not say so: file is not a database" in removed.stderr


def test_the_index_forgets_it(place: Place) -> None:
    keep(place.primary)
    settings = load_settings(place.config())
    about: dict[str, str | int] = {"product": "Fenix", "fingerprint": "1:0123456789abcdef"}
    kept = CrashEvent(at=OLD, crash_id=CRASH_ID, kind="kept", where=str(place.primary), about=about)
    limits = IndexLimits(keep_s=1e12, max_bytes=1 << 30)
    index = IndexFile(index_directory(settings), [], limits, IndexSources(lambda since: iter(())))
    index.write([kept], [], None, OLD)  # the daemon has it open
    assert place.run("erase", CRASH_ID, "--yes").exit_code == 0
    database = open_to_read(index_path(index_directory(settings)))
    assert database.execute("SELECT state, product FROM crashes JOIN traits ON traits = number").fetchall() == [
        ("erased", "")
    ]
    database.close()
    index.write([evolve(kept, crash_id=NEIGHBOUR)], [], None, OLD)
    index.close()


def test_it_asks(place: Place) -> None:
    everywhere(place)
    asked = run("crashes", "erase", CRASH_ID, "--config", place.config(), stdin="n\n")
    assert "Erase 1 crash everywhere?" in asked.stderr
    assert place.told() == []


def test_where_it_may_still_be_is_listed(place: Place) -> None:
    keep(place.primary)
    place.destinations = '[[crashmover.destination]]\ntype = "http"\nurl = "http://x/submit?key=secret"\n'
    place.second.rmdir()
    erased = place.run("erase", CRASH_ID, "--yes")
    assert erased.exit_code == 1
    assert erased.stdout == f"{CRASH_ID}: erased from {place.primary}\n"
    assert f"may still be in {place.second}: there is no store" in erased.stderr
    assert "memory of duplicates" not in erased.stderr
    assert f"{CRASH_ID}: may still be in http://x/submit?key=***: it erases nothing" in erased.stderr


def test_that_its_id_may_be_given_out_again_is_told(place: Place) -> None:
    keep(place.primary)
    (place.primary / "erased").write_text("no directory")
    assert "memory of duplicates" not in place.run("erase", NEIGHBOUR, "--yes").stderr  # the other store knows it
    place.second.rename(place.path / "away")
    erased = place.run("erase", CRASH_ID, "--yes")
    assert (erased.exit_code, erased.stdout) == (1, f"{CRASH_ID}: erased from {place.primary}\n")
    assert (
        f"{CRASH_ID}: may still be in the memory of duplicates, so its id may be answered again: Not a directory"
        in erased.stderr
    )


def test_a_crash_that_a_daemon_with_another_order_of_stores_moves_is_erased(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stores are swapped by the settings, and it was not restarted: the primary of then is emptied by it."""
    keep(place.primary)

    def erase_and_move(crash_id: str, staging: StagingDirectory) -> bool:
        found = erase(crash_id, staging)
        if staging.root == str(place.second) and files(place.primary):
            os.replace(place.primary / DAY, place.second / DAY)
        return found

    monkeypatch.setattr("collectord.cli.erase.erase_in_store", erase_and_move)
    assert place.run("erase", CRASH_ID, "--yes").exit_code == 0
    assert files(place.second) == []


def test_a_crash_that_is_being_moved_is_left_to_a_second_try(place: Place) -> None:
    keep(place.primary)
    other = place.primary / "staging" / f"{os.uname().nodename}-1-00c0ffee"
    other.mkdir(parents=True)
    claim = other / f"{CRASH_ID}.moving"
    claim.touch()
    (other / "lock").touch()
    with (other / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        erased = place.run("erase", CRASH_ID, "--yes")
    assert f"may still be in {place.primary}: it is being moved right now" in erased.stderr
    assert len(files(place.primary / DAY)) == 3


def test_what_is_left_of_a_removal_is_erased(place: Place) -> None:
    found = keep(place.primary)
    os.unlink(found.raw_crash)
    assert place.run("erase", CRASH_ID, "--yes").exit_code == 0
    assert files(place.primary) == []


def test_without_a_journal(place: Place) -> None:
    keep(place.primary)
    place.destinations = "[ledger]\nenabled = false\n"
    file = place.config()
    file.write_text(file.read_text().replace(f'[ledger]\ndirectory = "{place.path}/ledger"\n', ""))
    assert run("crashes", "erase", CRASH_ID, "--yes", "--config", file).exit_code == 0
    assert place.told() == []
