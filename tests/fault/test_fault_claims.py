"""
Two hosts that share a store over a network see at once which crashes the other one is moving, whatever is cached.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.test_fault_filesystems import can_serve, needs_guest, served
from tests.support.daemon import ROOT
from tests.support.hosts import can_be_hosts
from tests.support.uml import OTHER_MOUNT, nfs_commands, nfs_server_tools, python, run_in_guest

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.mark.skipif(can_be_hosts() != "", reason=can_be_hosts())
@pytest.mark.skipif(can_serve("sshfs") != "", reason=can_serve("sshfs"))
def test_on_sshfs(tmp_path: Path) -> None:
    """It lists a directory from memory for 20 seconds."""
    one, other = tmp_path / "one", tmp_path / "other"
    for directory in (one, other):
        directory.mkdir()
    with served("sshfs", one, tmp_path / "source") as here, served("sshfs", other, tmp_path / "source") as there:
        command = ["unshare", "--uts", sys.executable, "-m", "tests.support.claiming", str(here), str(there)]
        subprocess.run(command, check=True, cwd=ROOT)


@needs_guest
def test_on_nfs() -> None:
    """It says from memory for 30 seconds whether a file is there."""
    tools = nfs_server_tools()
    if tools is None:
        pytest.skip("no nfs-kernel-server to be had")
    claiming = python("tests.support.claiming", "/mnt/nfs4/four", "/mnt/other/four", "removals")
    run_in_guest(f"{nfs_commands(tools)}{OTHER_MOUNT}{claiming}\n", timeout=250)
