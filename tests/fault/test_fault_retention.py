"""
Retention under load, and killed in the midst of it: an old crash is whole or gone, a new one is there.
"""

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.load import SMALL, load
from tests.support.reports import harm
from tests.support.wait import until
from tests.unit.cli.command import keep

pytestmark = pytest.mark.fault

OLD = datetime(2016, 6, 22, 15, 19, 49, tzinfo=UTC)
DUMPS = {"upload_file_minidump": b"MDMP" * 100, "extra_1": b"x" * 5000}


def keep_old(root: Path, number: int) -> str:
    """A crash of long ago, in a store whose daemon has run until now."""
    crash_id = f"{number:08x}-57c6-4e5d-b2cf-cabde2160622"
    sums = {name: hashlib.sha256(dump).hexdigest() for name, dump in DUMPS.items()}
    raw_crash = {
        "uuid": crash_id,
        "submitted_timestamp": (OLD + timedelta(seconds=number % 900)).isoformat(),
        "Serial": "old",
        "metadata": {"dump_checksums": sums},
    }
    place = keep(root, raw_crash, DUMPS)
    for file in (place.raw_crash, *map(place.dump, DUMPS)):
        os.chmod(file, 0o600)
    os.utime(place.raw_crash, (OLD.timestamp(), OLD.timestamp()))
    return crash_id


def old_in(root: Path) -> set[str]:
    """The old crashes in a store at rest; each is whole."""
    found = {crash_id: crash for crash_id, crash in stored_crashes(root).items() if crash_id.endswith("160622")}
    assert all(crash.dumps == DUMPS for crash in found.values())
    return set(found)


def test_killed_in_the_midst_of_retention(tmp_path: Path) -> None:
    root, port = tmp_path / "root", free_port()
    old = {keep_old(root, n * 70_001) for n in range(1500)}
    (root / "retention.time").write_text(datetime.now(UTC).isoformat())
    toml = config(port, root, submission="workers = 2", storage="keep_days = 30")
    acknowledged: dict[str, str] = {}
    with Daemon(toml, port, tmp_path / "work") as daemon:
        for lives, removed in enumerate((100, 600), 1):
            # One that is stopped while it starts refuses what comes then.
            until(lambda lives=lives: daemon.log().count("StreamingSite starting") == 2 * lives)  # type: ignore[misc]
            with load(port, clients=2, shapes=[SMALL]) as clients:
                until(lambda removed=removed: daemon.log().count(": keep_days") > removed, 60)  # type: ignore[misc]
                daemon.kill()
            assert clients.refused == []
            acknowledged |= clients.acknowledged
            left = {path.stem for path in (root / "20160622" / "name").glob("*/*/*.json")}
            assert set() < left < old
            daemon.start()
        until(lambda: not list((root / "20160622").glob("*/*/*/*.*")), 60)
        daemon.stop()
        assert "Traceback" not in daemon.log()
    assert old_in(root) == set()
    assert problems(root) == []
    assert list(harm(acknowledged, root)) == []
    assert acknowledged


def test_what_a_kill_leaves_of_old_crashes_is_whole(tmp_path: Path) -> None:
    root, port = tmp_path / "root", free_port()
    old = {keep_old(root, n * 70_001) for n in range(500)}
    (root / "retention.time").write_text(datetime.now(UTC).isoformat())
    with Daemon(config(port, root, storage="keep_days = 30"), port, tmp_path / "work") as daemon:
        until(lambda: ": keep_days" in daemon.log(), 60)
        daemon.kill()
    port = free_port()
    with Daemon(config(port, root), port, tmp_path / "work-second"):  # without limits, it only sweeps
        left = old_in(root)
        assert set() < left < old
        assert problems(root) == []
