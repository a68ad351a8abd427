"""
Crashpad's crash report database on Linux, in native byte order; Crashpad's C{client/settings.cc} and
C{client/crash_report_database_generic.cc} define it.
"""

import struct
from pathlib import Path
from uuid import uuid4

_SETTINGS = struct.Struct("=IIIIQ16s")
"""Magic, version, options, padding, time of the last upload attempt, client id."""

_SETTINGS_MAGIC = 0x43506473  # CPds
_UPLOADS_ENABLED = 1

_METADATA = struct.Struct("=iiqqB7x")
"""Version, upload attempts, times of the last one and of the creation, attributes; the report id follows."""

_UPLOADED = 1


def create_database(path: Path) -> None:
    """An empty database that allows uploads, unless there is one."""
    path.mkdir(mode=0o700, exist_ok=True)
    settings = path / "settings.dat"
    if not settings.exists():
        settings.write_bytes(_SETTINGS.pack(_SETTINGS_MAGIC, 1, _UPLOADS_ENABLED, 0, 0, uuid4().bytes))


def report_ids(path: Path) -> list[str]:
    """For each report that was uploaded, oldest first, its id: the whole body of the server's answer."""
    reports = []
    for file in path.glob("completed/*.meta"):
        metadata = file.read_bytes()
        _, _, _, created, attributes = _METADATA.unpack_from(metadata)
        if attributes & _UPLOADED:
            reports.append((created, file.stat().st_mtime_ns, metadata[_METADATA.size :].decode()))
    return [report_id for _, _, report_id in sorted(reports)]
