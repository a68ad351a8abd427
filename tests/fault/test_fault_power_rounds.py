"""
Power cuts at any moment of receiving, falling back, moving, going home, releasing and removing.

C{make power ROUNDS=50} does many rounds. Each begins with an empty store on a journaled ext4, and ends with what is
there when the power is back: what was acknowledged is whole, and what is seen at all is.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from tests.e2e.test_e2e_crashmover import files_of_crashes, moving, submit
from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.support.load import BIG, SMALL, SPILLED, load
from tests.support.mounts import LoopDisk, can_mount, loop_ext4, tmpfs
from tests.support.reports import harm
from tests.support.rounds import Rounds
from tests.support.wait import until

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(can_mount() != "", reason=can_mount()),
]

MIB = 2**20
SHAPES = (SMALL, SPILLED, BIG)
COLLECTORD = str(Path(sys.executable).with_name("collectord"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with loop_ext4(tmp_path / "disk", 256 * MIB) as ext4:
        yield ext4


@pytest.fixture
def waiting(tmp_path: Path) -> tuple[Path, Mapping[str, str]]:
    """A store with crashes that nobody has moved yet, to be copied; and their serials."""
    root, port = tmp_path / "waiting", free_port()
    with Daemon(config(port, root), port, tmp_path / "work-waiting") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(40)), size=20_000)
    return root, acknowledged


def emptied(disk: LoopDisk, name: str) -> Path:
    """A root of that name on the disk, which has nothing else."""
    for left in disk.path.iterdir():
        if left.name != "lost+found":
            shutil.rmtree(left)
    return disk.path / name


def settings(chance: Random, port: int, *roots: Path, moves: bool = False) -> str:
    """Of these stores: dumps in memory or spilled, either way of syncing."""
    memory, sync = chance.choice([64 * MIB, MIB, 0]), chance.choice(["files", "filesystem"])
    storage = f'sync = "{sync}"\ntimeout_s = 2.0'
    return config(port, *roots, submission=f"memory_bytes = {memory}", storage=storage, moves=moves)


def cut_under_load(daemon: Daemon, disk: LoopDisk, chance: Random) -> set[str]:
    """
    Cut the power while clients send.

    @return: the crash ids that were acknowledged by the end.
    """
    with daemon, load(daemon.port, shapes=SHAPES) as clients:
        clients.wait_for_more(chance.randrange(1, 60))
        time.sleep(chance.random() * 0.05)
        disk.power_cut()
        daemon.kill()
    return set(clients.acknowledged)


def serials(*stores: Mapping[str, StoredCrash]) -> dict[str, str]:
    return {crash_id: str(crash.raw_crash["Serial"]) for store in stores for crash_id, crash in store.items()}


def test_power_cuts_of_a_primary(tmp_path: Path, disk: LoopDisk, rounds: Rounds) -> None:
    for n, chance in rounds:
        root, port = emptied(disk, f"root-{n}"), free_port()
        toml = settings(chance, port, root)
        acknowledged = cut_under_load(Daemon(toml, port, tmp_path / "work"), disk, chance)
        disk.remount()
        there = stored_crashes(root)
        rounds.compare(acknowledged, there)
        with Daemon(toml, port, tmp_path / "work"):
            assert list(harm(serials(there), root)) == []


def test_power_cuts_of_a_fallback(tmp_path: Path, disk: LoopDisk, rounds: Rounds) -> None:
    """The primary fills up, also in the middle of what is spilled to it; its disk keeps its power."""
    (tmp_path / "small").mkdir()
    for n, chance in rounds:
        root, port = emptied(disk, f"root-{n}"), free_port()
        with tmpfs(tmp_path / "small", size=3 * MIB) as small:
            primary = small / f"primary-{n}"
            toml = settings(chance, port, primary, root)
            acknowledged = cut_under_load(Daemon(toml, port, tmp_path / "work"), disk, chance)
            disk.remount()
            there = stored_crashes(primary), stored_crashes(root)
            rounds.compare(acknowledged, *there)
            with Daemon(toml, port, tmp_path / "work"):
                assert list(harm(serials(*there), primary, root)) == []


def cut_while_moving(daemon: Daemon, disk: LoopDisk, destination: Path, chance: Random, number: int) -> None:
    """Cut the power when some of so many crashes have arrived."""
    with daemon:
        some = chance.randrange(1, number)
        until(lambda: len(list(destination.glob("[0-9]*/name/*/*/*.json"))) >= some, 60)
        time.sleep(chance.random() * 0.02)
        disk.power_cut()
        daemon.kill()


def test_power_cuts_of_a_destination(
    tmp_path: Path, disk: LoopDisk, rounds: Rounds, waiting: tuple[Path, Mapping[str, str]]
) -> None:
    """Their source keeps its power, and must not have let go of anything that the destination has lost."""
    kept, acknowledged = waiting
    for n, chance in rounds:
        destination, source, port = emptied(disk, f"root-{n}"), tmp_path / f"source-{n}", free_port()
        shutil.copytree(kept, source, symlinks=True)
        if chance.random() < 0.5:
            toml = config(port, source, moves=True) + moving(destination)
        else:  # a fallback store, whose crashes go home
            toml = settings(chance, port, destination, source, moves=True)
        daemon = Daemon(toml, port, tmp_path / "work")
        cut_while_moving(daemon, disk, destination, chance, len(acknowledged))
        disk.remount()
        rounds.compare(set(acknowledged), stored_crashes(source), stored_crashes(destination))
        with daemon:
            until(lambda source=source: not files_of_crashes(source), 60)  # type: ignore[misc]
            assert list(harm(acknowledged, destination)) == []
        shutil.rmtree(source)


def test_power_cuts_of_a_source(
    tmp_path: Path, disk: LoopDisk, rounds: Rounds, waiting: tuple[Path, Mapping[str, str]]
) -> None:
    """What is just being removed is never seen in halves, and the rest of it goes in the end."""
    kept, acknowledged = waiting
    for n, chance in rounds:
        source, destination, port = emptied(disk, f"root-{n}"), tmp_path / f"destination-{n}", free_port()
        shutil.copytree(kept, source, symlinks=True)
        os.sync()
        daemon = Daemon(config(port, source, moves=True) + moving(destination), port, tmp_path / "work")
        cut_while_moving(daemon, disk, destination, chance, len(acknowledged))
        disk.remount()
        rounds.compare(set(acknowledged), stored_crashes(source), stored_crashes(destination))
        with daemon:
            until(lambda source=source: not files_of_crashes(source), 60)  # type: ignore[misc]
            assert list(harm(acknowledged, destination)) == []
        shutil.rmtree(destination)


def cut_during_a_command(disk: LoopDisk, chance: Random, number: int, *args: object) -> set[str]:
    """
    Cut the power when a command has told of some of so many crashes.

    @return: all that it has told of.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTORD_")}
    environment = inherited | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "500"}
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [COLLECTORD, *map(str, args)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        assert process.stdout is not None
        output = {process.stdout.readline().partition(":")[0] for _ in range(chance.randrange(1, number))}
        time.sleep(chance.random() * 0.01)
        disk.power_cut()
        output |= {line.partition(":")[0] for line in process.stdout if " stays " not in line}
    return output - {""}


def quarantined(root: Path) -> dict[str, StoredCrash]:
    """The crashes in the quarantine, read as if they were in their places."""
    found = {}
    for directory in root.glob("quarantine/*"):
        place = root / "seen" / f"20{directory.name[-6:]}" / "name" / directory.name[:2] / directory.name[2:4]
        shutil.copytree(directory, place, ignore=shutil.ignore_patterns("reason.txt"), dirs_exist_ok=True)
    if (root / "seen").exists():
        found = stored_crashes(root / "seen")
        shutil.rmtree(root / "seen")
    return found


def in_the_quarantine(root: Path) -> None:
    """Put all crashes of a store there."""
    for raw_crash in root.glob("[0-9]*/name/*/*/*.json"):
        directory = root / "quarantine" / raw_crash.stem
        directory.mkdir(parents=True)
        for file in raw_crash.parent.glob(f"{raw_crash.stem}.*"):
            file.rename(directory / file.name)
        (directory / "reason.txt").write_text("2016-06-22T15:20:00+00:00 for a test\n")
    for link in root.glob("[0-9]*/date/*/*/*"):
        link.unlink()


def test_power_cuts_of_a_release_from_quarantine(
    tmp_path: Path, disk: LoopDisk, rounds: Rounds, waiting: tuple[Path, Mapping[str, str]]
) -> None:
    kept, acknowledged = waiting
    in_the_quarantine(kept)
    for n, chance in rounds:
        root = emptied(disk, f"root-{n}")
        shutil.copytree(kept, root, symlinks=True)
        os.sync()
        release = "quarantine", "release", "--store", root
        released = cut_during_a_command(disk, chance, len(acknowledged), *release, *acknowledged)
        disk.remount()
        there = stored_crashes(root)
        assert released - there.keys() == set()
        rounds.compare(set(acknowledged), there, quarantined(root))
        left = [path.name for path in root.glob("quarantine/*")]
        if left:
            subprocess.run([COLLECTORD, *map(str, release), *left], check=True, stdout=subprocess.DEVNULL)
        port = free_port()
        with Daemon(config(port, root), port, tmp_path / "work"):
            assert list(harm(acknowledged, root)) == []


def test_power_cuts_of_a_removal_by_hand(
    tmp_path: Path, disk: LoopDisk, rounds: Rounds, waiting: tuple[Path, Mapping[str, str]]
) -> None:
    """What was said to be removed stays removed, and the rest of the one that it was at can be removed, too."""
    kept, acknowledged = waiting
    for n, chance in rounds:
        root = emptied(disk, f"root-{n}")
        shutil.copytree(kept, root, symlinks=True)
        os.sync()
        remove = "crashes", "remove", "--yes", "--store", root
        removed = cut_during_a_command(disk, chance, len(acknowledged), *remove, *acknowledged)
        disk.remount()
        there = stored_crashes(root)
        rounds.compare(set(there), there)
        assert removed.isdisjoint(there)
        left = {path.name.partition(".")[0] for path in files_of_crashes(root)} - there.keys()
        assert removed.isdisjoint(left)
        assert len(left) <= 1
        if left:
            subprocess.run([COLLECTORD, *map(str, remove), *left], check=True, stdout=subprocess.DEVNULL)
        assert len(acknowledged.keys() - there.keys() - removed - left) <= 1  # it was not told any more
        destination, port = tmp_path / f"destination-{n}", free_port()
        toml = config(port, root, moves=True) + moving(destination)
        with Daemon(toml, port, tmp_path / "work"):
            until(lambda root=root: not files_of_crashes(root), 60)  # type: ignore[misc]
            assert list(harm(serials(there), destination)) == []
        assert problems(root) == []
        shutil.rmtree(destination)
