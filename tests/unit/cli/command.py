"""
Runs the command in a test, and makes the crashes that it works on.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from collectord.cli.main import main
from collectord.model import MINIDUMP
from collectord.storage.filesystem.layout import Place, place_at

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
NEIGHBOUR = "8f63aaaa-57c6-4e5d-b2cf-cabde2160622"
STRANGER = "0bf1bbbb-57c6-4e5d-b2cf-cabde2160623"
DUMPS: Mapping[str, bytes] = {MINIDUMP: b"MDMP minidump", "extra_2": b"something else"}


def run(*args: object, stdin: str | bytes | None = None, env: Mapping[str, str] | None = None) -> Result:
    """The command; its result has C{exit_code}, C{stdout} and C{stderr}."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin, env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(result: Result) -> list[dict[str, object]]:
    """JSON lines."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def raw_crash_of(
    crash_id: str = CRASH_ID,
    dumps: Mapping[str, bytes] = DUMPS,
    *,
    rule: str = "accept_everything",
    rate: float = 100,
    deferred: bool = False,
    **annotations: object,
) -> dict[str, object]:
    """
    @param rate: C{throttle_rate}, in percent.
    """
    return {
        "ProductName": "Fenix",
        "Version": "1.0",
        **annotations,
        "uuid": crash_id,
        "submitted_timestamp": f"20{crash_id[-6:-4]}-{crash_id[-4:-2]}-{crash_id[-2:]}T15:19:49.123456+00:00",
        "version": 2,
        "legacy_processing": int(deferred),
        "throttle_rate": rate,
        "type_tag": "bp",
        "metadata": {
            "payload": "multipart",
            "payload_compressed": "0",
            "payload_size": 1234,
            "collector_notes": [],
            "dump_checksums": {name: hashlib.sha256(dump).hexdigest() for name, dump in dumps.items()},
            "user_agent": "test",
            "throttle_rule": rule,
        },
    }


def keep(
    root: Path,
    raw_crash: Mapping[str, object] | None = None,
    dumps: Mapping[str, bytes] = DUMPS,
    *,
    new: bool = True,
) -> Place:
    """A crash in the store at C{root}, as the collector leaves it."""
    raw_crash = raw_crash or raw_crash_of(dumps=dumps)
    place = place_at(str(root), str(raw_crash["uuid"]), str(raw_crash["submitted_timestamp"]))
    os.makedirs(place.name_dir, exist_ok=True)
    for name, dump in dumps.items():
        Path(place.dump(name)).write_bytes(dump)
    if new:
        os.makedirs(place.date_dir, exist_ok=True)
        os.symlink(place.link_target, place.link)
    Path(place.raw_crash).write_text(json.dumps(raw_crash))
    return place


def put_aside(root: Path, place: Place, reason: str = "2016-06-22T15:20:00+00:00 a dump is missing") -> Path:
    """A crash of the store in its quarantine, as the crashmover leaves it."""
    directory = root / "quarantine" / place.crash_id
    directory.mkdir(parents=True, mode=0o700)
    (directory / "reason.txt").write_text(f"{reason}\n")
    for path in Path(place.name_dir).glob(f"{place.crash_id}.*"):
        path.rename(directory / path.name)
    Path(place.link).unlink(missing_ok=True)
    return directory


def files_below(root: Path) -> dict[str, bytes]:
    """By their paths; of a symlink what it says."""
    return {
        str(path.relative_to(root)): os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if (path.is_symlink() or path.is_file()) and path.relative_to(root) != Path("staging/lock")
    }
