"""
kill -9 of two hosts that share a store, of either or both, while clients post and both move crashes out of it.

C{make hosts ROUNDS=50} does many rounds. Nothing that was acknowledged is lost, an id is published again only if a kill
came in between, nobody takes the bucket for broken, and the audits of both hosts agree.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fault.test_fault_filesystems import can_serve, needs_guest, served
from tests.support.hosts import can_be_hosts, hosts, in_numbers, kill_in_rounds, wrong_with
from tests.support.rounds import Rounds
from tests.support.uml import OTHER_MOUNT, nfs_commands, nfs_server_tools, python, run_in_guest

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(can_be_hosts() != "", reason=can_be_hosts()),
]

_SSHFS_LATE_S = 21
"""It lists a directory from memory for 20 seconds. An audit lists directories."""

only_for_long = pytest.mark.skipif("ROUNDS" not in os.environ, reason="takes minutes: make hosts")


def killed(mounts: Sequence[Path], served: Path, work: Path, rounds: Rounds, *, late_s: float = 0) -> str:
    """
    What came of it, in numbers.

    @param late_s: a host may see what the other has done so many seconds late.
    """
    with hosts(mounts, served, work) as both:
        clients = kill_in_rounds(both, rounds)
        for daemon in both.daemons:
            daemon.stop()
        time.sleep(late_s)
        assert not (wrong := list(wrong_with(both, clients))), "\n".join(wrong)
        return in_numbers(both, clients)


def test_two_hosts_on_one_directory(tmp_path: Path, rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    found = killed([directory, directory], directory, tmp_path, rounds)
    with capsys.disabled():
        print(f"\n{found}")


@only_for_long
@pytest.mark.skipif(can_serve("sshfs") != "", reason=can_serve("sshfs"))
def test_two_hosts_with_sshfs(tmp_path: Path, rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    """Each sees none of the locks of the other."""
    source = tmp_path / "source"
    one, other = tmp_path / "one", tmp_path / "other"
    for directory in (one, other):
        directory.mkdir()
    with served("sshfs", one, source) as here, served("sshfs", other, source) as there:
        found = killed([here, there], source, tmp_path, rounds, late_s=_SSHFS_LATE_S)
    with capsys.disabled():
        print(f"\n{found}")


@only_for_long
@needs_guest
def test_two_hosts_with_nfs(rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    """Two mounts of one export, which share no cache."""
    tools = nfs_server_tools()
    if tools is None:
        pytest.skip("no nfs-kernel-server to be had")
    said = run_in_guest(
        nfs_commands(tools)
        + OTHER_MOUNT
        + f"export ROUNDS={rounds.number} SEED={rounds.seed}\n"
        + python("tests.support.hosts", "/mnt/nfs4/four", "/mnt/other/four", "/mnt/exported/four", "/mnt/work/hosts")
        + "\n",
        timeout=3000,
    )
    with capsys.disabled():
        print(f"\n{said}")
