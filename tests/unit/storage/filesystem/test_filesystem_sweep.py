"""
What dead processes left is swept, whenever they died.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from collectord.storage.filesystem.fsops import locked
from collectord.storage.filesystem.peers import Peers
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sweep import Swept, sweep
from tests.support.disk import problems, stored_crashes
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    HOST,
    NAMES,
    NEIGHBOUR,
    RECORD,
    SLOT,
    SOON,
    Rig,
    dead,
    die,
    everything,
    failing,
    is_kept,
    make_crash,
    make_rig,
    of_crash,
    open_files,
    sweep_store,
    watched,
)


@pytest.fixture
def store(root: Path) -> Path:
    """With a sound neighbour."""
    rig = make_rig(root)
    rig.save(rig.transaction(make_crash(NEIGHBOUR)))
    rig.staging.remove()
    return root


def put(root: Path, *what: str) -> None:
    """Some of the pieces of the crash: link, dump, extra, json."""
    for piece in what:
        if piece == "link":
            (root / SLOT / CRASH_ID).symlink_to("../../../name/8f/63")
        elif piece == "json":
            path = root / NAMES / f"{CRASH_ID}.json"
            path.write_text(json.dumps(make_crash().raw_crash))
            path.chmod(0o600)
        else:
            path = root / NAMES / f"{CRASH_ID}{'.dump' if piece == 'dump' else '.extra_2.dump'}"
            path.write_bytes(list(DUMPS.values())[piece == "extra"])
            path.chmod(0o600)


@pytest.mark.parametrize("placed", [(), ("link",), ("link", "dump"), ("link", "dump", "extra"), ("dump",), ("extra",)])
def test_sweep_what_was_half_in_place(store: Path, placed: tuple[str, ...]) -> None:
    left = dead(store)
    (left / f"{CRASH_ID}.json").write_text(RECORD)
    (left / f"{CRASH_ID}.dump").write_bytes(b"MDMP")
    (left / "1.part").write_bytes(b"spilled")
    put(store, *placed)
    assert sweep_store(store) == 3
    assert of_crash(store) == []
    assert is_kept(store, NEIGHBOUR)
    assert problems(store) == []
    assert not left.exists()
    assert sweep_store(store) == 0


@pytest.mark.parametrize(
    "record",
    [
        *(b"", b"{", RECORD[:50].encode(), bytes(300), b"\xff\xfe", b"[]", b"{}", b"null"),
        *(b'{"submitted_timestamp": %s}' % value for value in (b"null", b"5", b'""', b'"yesterday"', b"[]", b"{}")),
    ],
)
def test_sweep_an_intent_record_that_was_cut_off(store: Path, record: bytes) -> None:
    left = dead(store)
    (left / f"{CRASH_ID}.json").write_bytes(record)
    assert sweep_store(store) == 1
    assert everything(store) == of_crash(store, NEIGHBOUR)
    assert problems(store) == []


def test_sweep_leaves_what_is_whole(store: Path) -> None:
    """Of an id that was there already, when a second crash of that id was written and its process died."""
    put(store, "link", "dump", "extra", "json")
    (dead(store) / f"{CRASH_ID}.json").write_text(json.dumps({**make_crash().raw_crash, "Which": "second"}))
    assert sweep_store(store) == 1
    assert is_kept(store)
    assert "Which" not in stored_crashes(store)[CRASH_ID].raw_crash
    assert problems(store) == []


@pytest.mark.parametrize("name", ["lock.json", "1.json", "check", f"{CRASH_ID}", f"{CRASH_ID[:-1]}x.json", "..json"])
def test_sweep_other_names(store: Path, name: str) -> None:
    (dead(store) / name).write_text(RECORD)
    assert sweep_store(store) == 1
    assert is_kept(store, NEIGHBOUR)


def test_sweep_takes_dumps_of_this_id_only(store: Path) -> None:
    (dead(store) / f"{CRASH_ID}.json").write_text(RECORD)
    others = ["notes.txt", f"{CRASH_ID}x.dump", f"{CRASH_ID}.txt"]
    for other in others:
        (store / NAMES / other).write_text("")
    put(store, "dump")
    sweep_store(store)
    assert sorted(path.name for path in (store / NAMES).iterdir() if NEIGHBOUR not in path.name) == sorted(others)


def test_sweep_without_a_lock_or_a_place(root: Path) -> None:
    left = dead(root)
    (left / "lock").unlink()
    (left / f"{CRASH_ID}.json").write_text(RECORD)
    (root / "staging" / "a file").touch()
    assert sweep_store(root) == 1
    assert not left.exists()
    assert (root / "staging" / "a file").exists()


def test_sweep_leaves_the_living(rig: Rig) -> None:
    transaction = rig.transaction(make_crash())
    rig.sync.meanwhile = lambda: swept.append(sweep_store(rig.root))
    swept: list[int] = []
    rig.save(transaction)
    assert swept == [0, 0]
    assert rig.errors(transaction) == [None]
    assert is_kept(rig.root)


def is_free(path: str) -> bool:
    """Whether nobody holds the lock."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def test_nobody_sweeps_while_another_process_takes_its_lock(root: Path) -> None:
    """In between its directory would look dead."""
    free: list[bool] = []

    def looking(seen: int, name: str, do: Callable[[], Any]) -> Any:
        free.append(is_free(f"{root}/staging/lock"))
        return do()

    staging = StagingDirectory(str(root), Modes())
    with watched(Path(staging.path), ["open"], looking):
        staging.make()
    assert free == [False, False]  # it opens its lock, and then looks whether that keeps off another descriptor
    assert is_free(f"{root}/staging/lock")


def test_nobody_begins_while_another_process_sweeps(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free: list[bool] = []
    is_gone = Peers.owner_is_gone

    def looking(peers: Peers, directory: str) -> bool:
        free.append(is_free(f"{store}/staging/lock"))
        return is_gone(peers, directory)

    monkeypatch.setattr(Peers, "owner_is_gone", looking)
    dead(store)
    sweep_store(store)
    assert free == [False]
    assert is_free(f"{store}/staging/lock")


LIVING = """
import sys
from collectord.storage.filesystem.staging import *
staging = StagingDirectory(sys.argv[1], Modes())
staging.make()
staging.write("1.part", [b"spilled"])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_sweep_another_process_only_when_it_is_dead(rig: Rig) -> None:
    command = [sys.executable, "-c", LIVING, str(rig.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert sweep(rig.staging).files == 0
        assert len(everything(rig.root)) == 1
        process.kill()
    assert sweep(rig.staging).files == 1
    assert everything(rig.root) == []


@pytest.mark.parametrize("host", ["elsewhere", f"{HOST}-1"])
def test_sweep_another_host_only_after_a_day(root: Path, host: str) -> None:
    """Its locks may not show here."""
    left = dead(root, f"{host}-99999-00c0ffee")
    (left / "1.part").touch()
    assert sweep_store(root) == 0
    yesterday = left.stat().st_mtime - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    assert sweep_store(root) == 1
    assert not left.exists()


@pytest.mark.timeout(20)
def test_sweep_nothing_of_another_host_that_lives_though_it_was_idle_for_a_day(root: Path) -> None:
    """Where its lock shows here, it is believed."""
    living = dead(root, "elsewhere-99999-00c0ffee")
    (living / "1.part").touch()
    os.utime(living, (0, 0))
    with locked(f"{living}/lock", fcntl.LOCK_EX):
        assert sweep_store(root) == 0
    assert sweep_store(root) == 1


def test_sweep_can_fail_and_be_tried_again(store: Path) -> None:
    (dead(store) / f"{CRASH_ID}.json").write_text(RECORD)
    put(store, "link", "dump")
    with failing(store, "unlink", 1, OSError(5, "injected")), pytest.raises(OSError, match="injected"):
        sweep_store(store)
    assert sweep_store(store) == 1
    assert of_crash(store) == []


def test_sweep_goes_on_where_something_can_t_be_removed(store: Path) -> None:
    for number in (1, 2, 3):
        (dead(store, f"{HOST}-9999{number}-00c0ffee") / "1.part").touch()
    staging = StagingDirectory(str(store), Modes())
    staging.make()
    with failing(store, "unlink", 2, OSError(5, "injected")):
        swept = sweep(staging)
    assert (swept.files, [error.errno for error in swept.failed]) == (2, [5])
    assert sweep(staging) == Swept(1, [])
    staging.remove()
    assert os.listdir(store / "staging") == ["lock"]


@contextmanager
def open_files_stay(root: Path) -> Iterator[list[str]]:
    """As on NFS: a file that is removed while it is open stays in its directory, under a hidden name, until then."""
    unlink, hidden = os.unlink, list[str]()

    def hide(path: Any, *args: Any, dir_fd: int | None = None, **kwargs: Any) -> None:
        whole = path if dir_fd is None else f"{os.readlink(f'/proc/self/fd/{dir_fd}')}/{path}"
        for left in list(hidden):
            if left not in open_files(root):
                hidden.remove(left)
                unlink(left)
        if whole in hidden:
            raise OSError(16, "Device or resource busy", whole)
        if whole in open_files(root):
            hidden.append(f"{os.path.dirname(whole)}/.nfs{len(hidden)}")
            os.rename(whole, hidden[-1])
        elif os.path.lexists(whole):
            unlink(path, *args, dir_fd=dir_fd, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", hide)
        yield hidden


def test_what_is_removed_is_closed_first(store: Path) -> None:
    (dead(store) / f"{CRASH_ID}.json").write_text(RECORD)
    with open_files_stay(store):
        assert sweep_store(store) == 1
        assert os.listdir(store / "staging") == ["lock"]
        assert sweep_store(store) == 0


@pytest.mark.slow
def test_what_somebody_still_has_open_goes_with_a_later_sweep(store: Path) -> None:
    left = dead(store)
    (left / "1.part").touch()
    staging = StagingDirectory(str(store), Modes())
    staging.make()
    with open_files_stay(store) as hidden:
        with (left / "1.part").open():
            assert [error.errno in (16, 39) for error in sweep(staging).failed] == [True]
            assert os.listdir(left) == [os.path.basename(hidden[0])]
        assert sweep(staging).failed == []
        staging.remove()
    assert os.listdir(store / "staging") == ["lock"]


def test_a_removal_that_fails_leaves_the_rest_to_a_sweep(store: Path) -> None:
    staging = StagingDirectory(str(store), Modes())
    staging.make()
    with failing(store, "rmdir", 1, OSError(5, "injected")), pytest.raises(OSError, match="injected"):
        staging.remove()
    assert open_files(store) == []
    staging.remove()
    assert sweep_store(store) == 0
    assert os.listdir(store / "staging") == ["lock"]


def test_nobody_sweeps_a_directory_that_is_being_removed(store: Path) -> None:
    staging = StagingDirectory(str(store), Modes())
    staging.make()
    other = StagingDirectory(str(store), Modes())
    other.make()
    sweeps: list[Thread] = []

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if not sweeps:
            sweeps.append(Thread(target=lambda: sweep(other)))
            sweeps[0].start()
            sweeps[0].join(0.1)
            assert sweeps[0].is_alive()  # it waits for the removal
        return do()

    with watched(store, ["rmdir"], happen):
        staging.remove()
        sweeps[0].join(SOON)
    other.remove()
    assert os.listdir(store / "staging") == ["lock"]


# Killed at any point.


STEPS = ("open", "writev", "rename", "symlink", "link", "mkdir", "unlink")


class Killed(BaseException):
    """From now on this process does nothing any more."""


@pytest.mark.slow
@pytest.mark.parametrize("spilled", [False, True], ids=["memory", "spilled"])
@pytest.mark.parametrize("end", ["kept", "undone", "abandoned"])
def test_killed_at_any_point(tmp_path: Path, spilled: bool, end: str) -> None:
    """
    After each single change to the disk, of a save that is kept, one whose last sync fails, and one that is given up;
    then the next process sweeps.
    """
    whole = set()
    for number in range(1, 100):
        root = tmp_path / str(number)
        rig = make_rig(root)
        rig.save(rig.transaction(make_crash(NEIGHBOUR)))
        places = {"extra_2": rig.spill(DUMPS["extra_2"])} if spilled else {}
        transaction = rig.transaction(make_crash(places=places))
        if end == "undone":
            rig.sync.fails = lambda path: path.endswith(SLOT)
        elif end == "abandoned":
            rig.sync.meanwhile = lambda latch=transaction.latch, rig=rig: len(rig.sync.calls) == 4 and latch.abandon()  # type: ignore[misc]
        killed = False

        def happen(seen: int, name: str, do: Callable[[], Any], number: int = number) -> Any:
            nonlocal killed
            if killed:
                raise Killed
            done = do()
            if seen == number:
                killed = True
                raise Killed
            return done

        with watched(root, STEPS, happen) as disk, suppress(Killed):
            rig.save(transaction)
        assert killed is (disk.seen >= number)
        acknowledged = rig.resolved[1:] == [(transaction.latch, None)]
        die(rig.staging)
        sweep_store(root)
        assert problems(root) == []
        assert is_kept(root, NEIGHBOUR)
        whole.add(is_kept(root))
        assert is_kept(root) or not acknowledged
        if not killed:
            break
    assert acknowledged is (end == "kept")
    assert is_kept(root) is (end == "kept")
    assert whole == {True, False}
    assert number > 10
