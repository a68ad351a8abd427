"""
Backup and restore, by the very commands of the documentation and by others: no crash of the backup is lost.
"""

import os
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.test_e2e_command import collectord
from tests.e2e.test_e2e_crashmover import files_of_crashes, moving, submit, until_moved
from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.reports import harm
from tests.support.wait import until

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync")]


def commands() -> list[str]:
    """Those of the documentation, in order: one of the backup, then those of the restore."""
    text = (ROOT / "docs" / "operations.rst").read_text("utf-8")
    section = text.partition("Backup and restore\n------------------\n")[2].partition("\n---")[0]
    lines = re.sub(r" \\\n +", " ", section).splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


def run(command: str, root: Path, backup: Path, daemon: Daemon | None = None) -> None:
    """@param daemon: whose settings the command is to have."""
    command = command.partition(" #")[0].replace("ROOT/", f"{root}/").replace("BACKUP/", f"{backup}/")
    if command.startswith("sudo"):
        assert daemon is not None
        _, _, _, _, *words = command.split()
        words[words.index("2016-06-22") if "2016-06-22" in words else len(words) :] = (
            [f"{datetime.now(UTC):%Y-%m-%d}"] if "2016-06-22" in words else []
        )
        ran = collectord(*words, "--config", daemon.toml_path)
        assert ran.status == 0, ran
    elif not command.startswith("chown"):
        ran_by_shell = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert ran_by_shell.returncode in (0, 24), ran_by_shell


def test_the_commands_are_there() -> None:
    assert [command.split()[0] for command in commands()] == ["rsync", "rsync", "rsync", "chown", "sudo", "sudo"]


@pytest.mark.parametrize("running", [True, False])
def test_by_the_commands_of_the_documentation(tmp_path: Path, running: bool) -> None:
    old, new, backup, there = (tmp_path / name for name in ("old", "new", "backup", "there"))
    backup_it, *restore = commands()
    port = free_port()
    with Daemon(config(port, old), port, tmp_path / "work-old") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(40)))
        run(backup_it, old, backup)
    assert not (backup / "staging").exists()
    assert list(harm(acknowledged, backup)) == []

    port = free_port()
    toml = config(port, new, moves=True) + moving(there)
    with Daemon(toml, port, tmp_path / "work-new") as daemon:
        acknowledged |= submit(daemon, "kept-here")
        until_moved(new, {}, there)
        if not running:
            daemon.stop()
        mark = (new / "collectord-store.json").read_text()
        for command in restore[:3]:
            run(command, new, backup)
        if not running:
            daemon.start()
        until(lambda: stored_crashes(there).keys() >= acknowledged.keys(), 60)
        until(lambda: not files_of_crashes(new), 60)
        for command in restore[3:]:
            run(command, new, backup, daemon)
        assert list(harm(acknowledged, there)) == []
        assert (new / "collectord-store.json").read_text() == mark


@pytest.mark.parametrize("options", ["--bwlimit=2000", "--exclude=date", "--inplace --whole-file --bwlimit=4000"])
def test_by_other_commands_into_a_root_that_is_used(tmp_path: Path, options: str) -> None:
    """Links come first and are old; all else comes in bits; or they do not come at all."""
    old, new, there, port = tmp_path / "old", tmp_path / "new", tmp_path / "there", free_port()
    with Daemon(config(port, old), port, tmp_path / "work-old") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(20)), size=200_000)
    for link in old.glob("*/date/*/*/*"):  # links that old were taken for what is left of removals
        os.utime(link, (time.time() - 11,) * 2, follow_symlinks=False)
    port = free_port()
    with Daemon(config(port, new, moves=True) + moving(there), port, tmp_path / "work-new") as daemon:
        copy = ["rsync", "-a", "--exclude=staging", "--exclude=ledger", *options.split(), f"{old}/", f"{new}/"]
        subprocess.run(copy, check=True, capture_output=True)
        if "date" in options:
            audit = collectord("audit", "today", "-c", daemon.toml_path, "--unlinked")
            assert audit.status == 1
            assert set(audit.stdout.split()) == acknowledged.keys()
            renewed = collectord("crashes", "renew", "--all-unlinked", "-c", daemon.toml_path)
            assert renewed.status == 0, renewed
        until_moved(new, acknowledged, there, 60)
        assert collectord("audit", "today", "-c", daemon.toml_path).status == 0
