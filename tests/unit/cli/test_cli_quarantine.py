import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collectord.daemon.indexing import index_directory
from collectord.index.database import open_to_read
from collectord.index.gap import IndexSources
from collectord.index.writer import IndexFile, IndexLimits, index_path
from collectord.model import MINIDUMP, CrashEvent
from collectord.observe.journal.reader import Journal
from collectord.settings.loading import load_settings
from collectord.storage.filesystem import finder, quarantine
from collectord.storage.filesystem.finder import FoundCrash, quarantined_crash
from collectord.storage.filesystem.layout import Place
from collectord.storage.filesystem.manual import staging_in
from collectord.storage.filesystem.peers import Peers
from collectord.storage.filesystem.quarantine import release
from collectord.storage.filesystem.removal import remove
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sweep import sweep
from tests.support.disk import problems, stored_crashes
from tests.unit.cli.command import (
    CRASH_ID,
    DUMPS,
    NEIGHBOUR,
    STRANGER,
    files_below,
    keep,
    lines,
    put_aside,
    raw_crash_of,
    run,
)
from tests.unit.storage.stores import open_files


@pytest.fixture
def aside(root: Path) -> Path:
    return put_aside(root, keep(root))


def in_order(root: Path) -> None:
    """The crash is back, whole, new and alone."""
    for path in root.rglob("*"):  # the tests' own files are open to others
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)
    assert problems(root) == []
    assert stored_crashes(root)[CRASH_ID].dumps == DUMPS
    assert list((root / "quarantine").iterdir()) == []
    assert [path.name for path in (root / "staging").iterdir()] == ["lock"]


# ——— list, show ———


def test_list(root: Path, aside: Path) -> None:
    put_aside(root, keep(root, raw_crash_of(STRANGER)), "it has\x1b[31m burnt")
    listed = run("quarantine", "list")
    assert (listed.exit_code, listed.stderr) == (0, "")
    for text in (CRASH_ID, STRANGER, "a dump is missing", "it has\\x1b[31m burnt", str(root)):
        assert text in listed.stdout
    assert [(line["crash_id"], line["dumps"]) for line in lines(run("quarantine", "list", "--json"))] == [
        (STRANGER, ["extra_2", "upload_file_minidump"]),
        (CRASH_ID, ["extra_2", "upload_file_minidump"]),
    ]


def test_list_of_nothing(root: Path) -> None:
    assert run("quarantine", "list").exit_code == 0
    assert run("quarantine", "list", "--json").stdout == ""


def test_list_what_has_no_reason_or_no_raw_crash(root: Path, aside: Path) -> None:
    (aside / "reason.txt").write_text("")
    (aside / f"{CRASH_ID}.json").unlink()
    (root / "quarantine" / "not-a-crash").mkdir()
    [line] = lines(run("quarantine", "list", "--json"))
    assert (line["crash_id"], line["reason"]) == (CRASH_ID, "unknown")
    assert run("quarantine", "show", CRASH_ID).exit_code == 1


def test_only_what_is_in_the_quarantine_is_shown(root: Path, aside: Path) -> None:
    keep(root, raw_crash_of(NEIGHBOUR))
    shown = run("quarantine", "show", NEIGHBOUR)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr == f"collectord: {NEIGHBOUR}: not in the quarantine of {root}\n"


def test_what_is_in_the_quarantine_is_shown_though_the_store_has_it_again(root: Path, aside: Path) -> None:
    keep(root)
    [shown] = json.loads(run("quarantine", "show", CRASH_ID, "--json").stdout)
    assert shown["quarantined"] == "2016-06-22T15:20:00+00:00 a dump is missing"
    assert shown["files"]["raw_crash"] == str(aside / f"{CRASH_ID}.json")


def test_show(root: Path, aside: Path) -> None:
    shown = run("quarantine", "show", CRASH_ID)
    assert shown.exit_code == 0
    assert "in the quarantine: 2016-06-22T15:20:00+00:00 a dump is missing" in shown.stdout


# ——— release ———


def test_release(root: Path, aside: Path) -> None:
    before = open_files(root)
    released = run("quarantine", "release", f"bp-{CRASH_ID}")
    assert open_files(root) == before
    assert (released.exit_code, released.stderr) == (0, "")
    assert released.stdout == (
        f"{CRASH_ID}: the raw crash and 2 dumps are in {root}/20160622/name/8f/63, and it is new\n"
    )
    in_order(root)


def test_the_journal_and_the_index_know_what_is_released(
    root: Path, aside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    file = tmp_path / "settings.toml"
    file.write_text(f'[[storage]]\nroot = "{root}"\n[ledger]\ndirectory = "{tmp_path}/ledger"\n')
    (tmp_path / "ledger").mkdir()
    directory = index_directory(load_settings(file))
    index = IndexFile(directory, [], IndexLimits(keep_s=1e12, max_bytes=1 << 30), IndexSources(lambda since: iter(())))
    put = [
        CrashEvent(at=1_466_608_789.0, crash_id=CRASH_ID, kind=kind, where=str(root))
        for kind in ("kept", "quarantined")
    ]
    index.write(put, [], None, 1_466_608_789.0)
    released = run("quarantine", "release", CRASH_ID, "--config", str(file))
    assert (released.exit_code, released.stderr) == (0, "")
    with closing(open_to_read(index_path(directory))) as database:
        assert database.execute("SELECT state, is_here FROM crashes").fetchall() == [("kept", 1)]
    index.close()
    told = [(line.kind, line.where) for line in Journal(tmp_path / "ledger", "20160622")]
    assert told == [("moved", str(root))]


def test_release_where_its_day_was_pruned(root: Path, aside: Path) -> None:
    for directory, _, _ in os.walk(root / "20160622", topdown=False):
        os.rmdir(directory)
    assert run("quarantine", "release", "--json", CRASH_ID).exit_code == 0
    in_order(root)
    assert (root / "20160622" / "name").stat().st_mode & 0o777 == 0o700


def test_release_by_the_modes_of_the_settings(root: Path, aside: Path, tmp_path: Path) -> None:
    for directory, _, _ in os.walk(root / "20160622", topdown=False):
        os.rmdir(directory)
    settings = tmp_path / "collectord.toml"
    settings.write_text("[[storage]]\nroot = 'crashes'\ndirectory_mode = '0750'\n")
    assert run("quarantine", "release", "-c", settings, CRASH_ID).exit_code == 0
    assert (root / "20160622" / "name" / "8f").stat().st_mode & 0o777 == 0o750


def test_release_leaves_the_neighbours_alone(root: Path, aside: Path) -> None:
    keep(root, raw_crash_of(NEIGHBOUR))
    put_aside(root, keep(root, raw_crash_of(STRANGER)))
    before = files_below(root)
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    after = files_below(root)
    assert {name: content for name, content in after.items() if CRASH_ID not in name and "staging" not in name} == {
        name: content for name, content in before.items() if CRASH_ID not in name
    }


def test_release_after_a_dump_was_put_right(root: Path, aside: Path) -> None:
    dump = aside / f"{CRASH_ID}.extra_2.dump"
    dump.unlink()
    refused = run("quarantine", "release", CRASH_ID)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == f"collectord: {CRASH_ID} stays in the quarantine: the dump extra_2 is missing\n"
    assert aside.is_dir()
    dump.write_bytes(DUMPS["extra_2"])
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    in_order(root)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raw_crash", "output"),
    [
        ("{", "its raw crash can't be read"),
        ("[]", "its raw crash can't be read: the raw crash is no JSON object"),
        ("[" * 100_000, "its raw crash can't be read"),
        (json.dumps({"uuid": CRASH_ID}), "submitted_timestamp is 'None'"),
        (json.dumps({**raw_crash_of(), "submitted_timestamp": "2016-06-22T../..:/x"}), "submitted_timestamp is"),
        (json.dumps({**raw_crash_of(), "submitted_timestamp": "2016-06-22T25:00:00"}), "submitted_timestamp is"),
        (json.dumps({**raw_crash_of(), "uuid": STRANGER}), f"the raw crash says uuid '{STRANGER}'"),
    ],
)
def test_release_of_what_would_come_back(root: Path, aside: Path, raw_crash: str, output: str) -> None:
    (aside / f"{CRASH_ID}.json").write_text(raw_crash)
    before = files_below(root)
    refused = run("quarantine", "release", CRASH_ID)
    assert refused.exit_code == 1
    assert output in refused.stderr
    assert files_below(root) == before
    [line] = lines(run("quarantine", "release", "--json", CRASH_ID))
    assert (line["released"], output in str(line["why_not"])) == (False, True)


def test_release_without_a_raw_crash(root: Path, aside: Path) -> None:
    (aside / f"{CRASH_ID}.json").unlink()
    for options in ([], ["--as-it-is"]):
        assert run("quarantine", "release", CRASH_ID, *options).exit_code == 1
    assert len(list(aside.iterdir())) == 3


def test_release_as_it_is(root: Path, aside: Path) -> None:
    (aside / f"{CRASH_ID}.extra_2.dump").unlink()
    (aside / f"{CRASH_ID}.dump").write_bytes(b"MDMP half of")
    assert run("quarantine", "release", CRASH_ID).exit_code == 1
    before = open_files(root)
    assert run("quarantine", "release", "--as-it-is", CRASH_ID).exit_code == 0
    assert open_files(root) == before
    assert run("crashes", "verify", CRASH_ID).exit_code == 0
    raw_crash = stored_crashes(root)[CRASH_ID].raw_crash
    metadata = raw_crash["metadata"]
    assert isinstance(metadata, dict)
    note, other = metadata["collector_notes"]
    assert note == "released: the dump extra_2 is missing"
    assert other.startswith("released: the dump upload_file_minidump has the checksum ")
    assert raw_crash["ProductName"] == "Fenix"


def test_release_as_it_is_keeps_the_notes_that_are_there(root: Path) -> None:
    raw_crash = raw_crash_of()
    metadata = raw_crash["metadata"]
    assert isinstance(metadata, dict)
    metadata["collector_notes"] = ["of the collector"]
    aside = put_aside(root, keep(root, raw_crash))
    (aside / f"{CRASH_ID}.extra_2.dump").unlink()
    assert run("quarantine", "release", "--as-it-is", CRASH_ID).exit_code == 0
    released = stored_crashes(root)[CRASH_ID].raw_crash["metadata"]
    assert isinstance(released, dict)
    assert released["collector_notes"] == ["of the collector", "released: the dump extra_2 is missing"]


def test_release_of_a_crash_without_checksums(root: Path) -> None:
    """As Socorro's collector keeps it."""
    raw_crash = raw_crash_of()
    raw_crash["metadata"] = {}
    put_aside(root, keep(root, raw_crash))
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    assert files_below(root)[f"20160622/name/8f/63/{CRASH_ID}.dump"] == DUMPS[MINIDUMP]


def test_release_of_a_dump_that_changes_after_it_was_looked_at(
    root: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked_at(crash: FoundCrash) -> list[str]:
        found = problems_of(crash)
        (aside / f"{CRASH_ID}.dump").write_bytes(b"MDMP another")
        return found

    problems_of = finder.problems_of
    monkeypatch.setattr(quarantine, "problems_of", looked_at)
    assert run("quarantine", "release", CRASH_ID).exit_code == 1
    assert stored_crashes(root) == {}
    assert len(list(aside.iterdir())) == 4


def test_release_goes_on_with_the_next(root: Path, aside: Path) -> None:
    other = put_aside(root, keep(root, raw_crash_of(STRANGER)))
    (other / f"{STRANGER}.dump").unlink()
    released = run("quarantine", "release", STRANGER, CRASH_ID)
    assert released.exit_code == 1
    assert CRASH_ID in released.stdout
    assert STRANGER in released.stderr


@pytest.mark.parametrize("crash_id", [STRANGER, CRASH_ID[:-1], ""])
def test_release_of_what_is_not_there(root: Path, aside: Path, crash_id: str) -> None:
    before = files_below(root)
    assert run("quarantine", "release", crash_id).exit_code == 2
    assert files_below(root) == before


def test_release_overwrites_no_other_crash(root: Path, aside: Path) -> None:
    place = keep(root, raw_crash_of(Comments="the other"))
    before = files_below(root)
    refused = run("quarantine", "release", CRASH_ID)
    assert refused.exit_code == 1
    assert f"another crash of this id is in its place: {place.raw_crash}" in refused.stderr
    assert files_below(root) == before


def test_release_looks_at_all_of_what_is_in_its_place(root: Path, aside: Path) -> None:
    """Not only at its size and time."""
    ours = aside / f"{CRASH_ID}.json"
    place = keep(root, raw_crash_of(Comments="the other"))
    ours.write_text(json.dumps(raw_crash_of(Comments="the first")))
    os.utime(ours, ns=(1, 1))
    os.utime(place.raw_crash, ns=(1, 1))
    assert run("quarantine", "release", CRASH_ID).exit_code == 1
    assert aside.is_dir()


def test_release_of_what_comes_into_its_place_just_now(
    root: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Peers.refuse_contended

    def late(self: Peers, crash_id: str) -> None:
        keep(root, raw_crash_of(Comments="the other"))
        real(self, crash_id)

    monkeypatch.setattr(Peers, "refuse_contended", late)
    assert run("quarantine", "release", CRASH_ID).exit_code == 1
    assert stored_crashes(root)[CRASH_ID].raw_crash["Comments"] == "the other"
    assert (aside / f"{CRASH_ID}.json").is_file()


def test_release_where_what_is_in_its_place_is_not_whole(root: Path, aside: Path) -> None:
    """The whole copy is not thrown away."""
    place = keep(root)
    Path(place.dump("extra_2")).write_bytes(b"half")
    before = files_below(root)
    refused = run("quarantine", "release", CRASH_ID)
    assert refused.exit_code == 1
    assert (
        "what is in its place is not whole; put that elsewhere first: the dump extra_2 has the checksum"
        in refused.stderr
    )
    assert files_below(root) == before
    for file in Path(place.name_dir).iterdir():
        file.unlink()
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    in_order(root)


def test_release_of_what_another_process_is_just_keeping(root: Path, aside: Path) -> None:
    other = StagingDirectory(str(root), Modes())
    other.make()
    Path(other.path, f"{CRASH_ID}.json").write_text("{}")
    before = files_below(root)
    refused = run("quarantine", "release", CRASH_ID)
    assert refused.exit_code == 1
    assert f"{os.path.basename(other.path)} has this crash in hand, too" in refused.stderr
    assert files_below(root) == before
    other.remove()
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    in_order(root)


def test_release_where_its_slot_goes_away_again_and_again(
    root: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its link nobody would move it."""

    def gone(self: StagingDirectory, link: str, target: str) -> None:
        raise FileNotFoundError(2, "No such file or directory", link)

    with monkeypatch.context() as patch:
        patch.setattr(StagingDirectory, "mark_new", gone)
        assert run("quarantine", "release", CRASH_ID).exit_code == 1
    assert stored_crashes(root) == {}
    assert len(list(aside.iterdir())) == 4
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    in_order(root)


@pytest.mark.parametrize("operation", ["symlink", "rename", "mkdir", "open"])
def test_release_where_its_directories_go_away_meanwhile(
    root: Path, aside: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The crashmover removes empty ones."""
    really = getattr(os, operation)
    gone = [str(root / "20160622" / branch) for branch in ("name", "date")]

    def operate(*args: Any, **options: Any) -> Any:
        for path in [path for path in gone if any(str(arg).startswith(path) for arg in args)]:
            gone.remove(path)
            raise FileNotFoundError(2, "No such file or directory", path)
        return really(*args, **options)

    monkeypatch.setattr(os, operation, operate)
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    assert len(gone) < 2
    in_order(root)


def test_release_where_the_file_system_knows_no_symlinks(
    root: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(target: str, link: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", unknown)
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    assert stored_crashes(root)[CRASH_ID].dumps == DUMPS
    assert (root / "20160622" / "date" / "15" / "19_49" / CRASH_ID).read_text() == "../../../name/8f/63"


def test_release_whose_staging_directory_can_t_be_removed(
    root: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done nevertheless, and the daemon sweeps."""

    def busy(self: StagingDirectory) -> None:
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(StagingDirectory, "remove", busy)
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    assert stored_crashes(root)[CRASH_ID].dumps == DUMPS


def test_release_by_another_user(root: Path, aside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: aside.stat().st_uid + 1)
    before = files_below(root)
    refused = run("quarantine", "release", CRASH_ID)
    assert refused.exit_code == 2
    assert "only the user of the daemon can do that" in refused.stderr
    assert files_below(root) == before
    assert not (root / "staging").exists(), "the daemon could not enter it"


# ——— the disk work, cut off ———


class _Killed(BaseException):
    pass


SYSTEM_CALLS = ("link", "rename", "symlink", "fsync", "mkdir", "unlink")


def killed_after(calls: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> bool:
    """Do C{work}, but no more than so many system calls that change the disk. Whether it was cut off."""
    done = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def perform(*args: object, **named: object) -> object:
            nonlocal done
            if done >= calls:
                raise _Killed
            done += 1
            return call(*args, **named)

        return perform

    with monkeypatch.context() as patch:
        for name in SYSTEM_CALLS:
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(shutil, "rmtree", lambda *args, **named: None)
        try:
            work()
        except _Killed:
            return True
    return False


def start_of_a_daemon(root: Path) -> None:
    """What its sweep of the staging area does; the lock of the killed process is free."""
    for lock in root.glob("staging/*/lock"):
        lock.unlink()
    staging = StagingDirectory(str(root), Modes())
    staging.make()
    sweep(staging)


@pytest.mark.slow
def test_a_release_that_is_killed_loses_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        crash = quarantined_crash(str(root), CRASH_ID)
        assert crash is not None
        with staging_in(str(root), Modes()) as staging:
            release(crash, staging)

    for number in range(100):
        place = keep(root)
        put_aside(root, place)
        cut_off = killed_after(number, monkeypatch, work)
        if os.path.lexists(place.raw_crash):
            assert whole(place), number
        start_of_a_daemon(root)
        crash = finder.find_crash(str(root), CRASH_ID)
        assert crash is not None
        assert finder.problems_of(crash) == [], number
        if crash.reason or (root / "quarantine" / CRASH_ID).is_dir():
            if crash.reason:
                assert not os.path.lexists(place.dump("extra_2")), "the sweep takes what was put in place"
                assert not os.path.lexists(place.link)
            work()
        assert whole(place), number
        assert not (root / "quarantine" / CRASH_ID).exists()
        if not cut_off:
            assert number > 20
            return
        remove(found(root))
    raise AssertionError("it never ends")


def found(root: Path) -> finder.FoundCrash:
    crash = finder.find_crash(str(root), CRASH_ID)
    assert crash is not None
    return crash


def whole(place: Place) -> bool:
    """Complete and new, as whoever sees its raw crash takes it to be."""
    dumps = all(Path(place.dump(name)).read_bytes() == dump for name, dump in DUMPS.items())
    return dumps and Path(place.link, f"{CRASH_ID}.json").is_file()


def test_a_removal_that_is_killed_leaves_no_half_crash(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        place = keep(root)
        cut_off = killed_after(number, monkeypatch, lambda: remove(found(root)))
        if os.path.exists(place.raw_crash):
            assert whole(place), number
        elif os.path.exists(place.dump("extra_2")) or os.path.exists(place.dump("upload_file_minidump")):
            assert os.path.lexists(place.link), "whoever looks at new crashes finishes it"
        if not cut_off:
            assert [name for name in files_below(root) if "staging" not in name] == []
            return
        for path in (place.raw_crash, place.link, *map(place.dump, DUMPS)):
            Path(path).unlink(missing_ok=True)
    raise AssertionError("it never ends")


def test_a_link_alone_is_removed(root: Path) -> None:
    place = keep(root)
    crash = found(root)
    shutil.rmtree(root / "20160622" / "name")
    remove(crash)
    assert files_below(root) == {}
    assert not os.path.lexists(place.link)


def test_removed_while_the_crashmover_removes_an_empty_slot(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = keep(root)
    crash, real = found(root), os.unlink

    def unlink(path: str) -> None:
        real(path)
        if path == place.link:
            os.rmdir(place.date_dir)

    monkeypatch.setattr(os, "unlink", unlink)
    remove(crash)
    assert files_below(root) == {}


def test_the_crashmover_takes_no_half_release_for_the_rest_of_a_removal(
    root: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the link is there, so is its raw crash: in its place, or in the staging area."""
    seen = 0
    real = os.fsync

    def fsync(fd: int) -> None:
        nonlocal seen
        link = root / "20160622" / "date" / "15" / "19_49" / CRASH_ID
        if os.path.lexists(link):
            seen += 1
            places = [*root.glob(f"staging/*/{CRASH_ID}.json"), *root.glob(f"20160622/name/8f/63/{CRASH_ID}.json")]
            assert places
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    assert run("quarantine", "release", CRASH_ID).exit_code == 0
    assert seen > 1
