"""
Power cuts and hung mounts in the middle of moves: no acknowledged crash is lost, and the rest goes on.
"""

from pathlib import Path

import pytest

from tests.e2e.test_e2e_crashmover import files_of_crashes, moving, submit
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.fusefs import can_mount_fuse, mounted
from tests.support.mounts import can_mount, loop_ext4
from tests.support.reports import harm
from tests.support.wait import until

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(can_mount()), reason=can_mount() or "-"),
]

MIB = 1024 * 1024


@pytest.mark.parametrize("moved", [1, 20, 60])
def test_power_cut_in_the_middle_of_moves(tmp_path: Path, moved: int) -> None:
    with loop_ext4(tmp_path / "disk", 256 * MIB) as disk:
        source, destination = disk.path / "source", disk.path / "destination"
        port = free_port()
        idle = config(port, source)
        with Daemon(idle, port, tmp_path / "before") as daemon:
            acknowledged = submit(daemon, *(f"n{n}" for n in range(100)), size=20_000)
        toml = config(port, source, moves=True) + moving(destination)
        with Daemon(toml, port, tmp_path / "during") as daemon:
            until(lambda: len(list(destination.glob("*/name/*/*/*.json"))) >= moved)
            disk.power_cut()
            daemon.kill()
        disk.remount()
        there = stored_crashes(source).keys() | stored_crashes(destination).keys()
        assert acknowledged.keys() <= there
        with Daemon(toml, port, tmp_path / "after"):
            until(lambda: not files_of_crashes(source), 60)
            assert list(harm(acknowledged, destination)) == []


@pytest.mark.skipif(bool(can_mount_fuse()), reason=can_mount_fuse() or "-")
@pytest.mark.parametrize("fault", ["hang all", "eio write"])
def test_a_destination_that_is_sick_for_a_while(tmp_path: Path, fault: str) -> None:
    source, behind = tmp_path / "source", tmp_path / "behind"
    behind.mkdir()
    (tmp_path / "mount").mkdir()
    with mounted(behind, tmp_path / "mount") as mount:
        port = free_port()
        destination = mount.path / "in"
        toml = config(port, source, moves=True) + moving(destination, destination="timeout_s = 2.0")
        with Daemon(toml, port, tmp_path / "work") as daemon:
            acknowledged = submit(daemon, *(f"before-{n}" for n in range(10)))
            until(lambda: not files_of_crashes(source), 30)
            mount.fault(fault)
            acknowledged |= submit(daemon, *(f"meanwhile-{n}" for n in range(30)))
            until(lambda: f"{destination} failed; trying again in" in daemon.log(), 30)
            acknowledged |= submit(daemon, *(f"still-{n}" for n in range(10)))
            mount.heal()
            until(lambda: not files_of_crashes(source), 60)
        assert list(harm(acknowledged, behind / "in")) == []


@pytest.mark.skipif(bool(can_mount_fuse()), reason=can_mount_fuse() or "-")
def test_a_source_that_hangs_holds_up_its_own_crashes_only(tmp_path: Path) -> None:
    primary, behind, destination = tmp_path / "primary", tmp_path / "behind", tmp_path / "destination"
    behind.mkdir()
    (tmp_path / "mount").mkdir()
    with mounted(behind, tmp_path / "mount") as mount:
        port = free_port()
        secondary = mount.path / "in"
        with Daemon(config(port, secondary), port, tmp_path / "before") as daemon:
            there = submit(daemon, *(f"there-{n}" for n in range(5)))
        with Daemon(config(port, primary, secondary), port, tmp_path / "idle"):
            pass
        mount.fault("hang all")
        with Daemon(
            config(port, primary, secondary, moves=True) + moving(destination), port, tmp_path / "work"
        ) as daemon:
            acknowledged = submit(daemon, *(f"here-{n}" for n in range(20)))
            until(lambda: not files_of_crashes(primary), 30)
            assert list(harm(acknowledged, destination)) == []
            mount.heal()
            until(lambda: stored_crashes(destination).keys() >= there.keys(), 90)
