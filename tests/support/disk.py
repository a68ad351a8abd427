"""
What lies on disk under the root of a store at rest, read by the design's layout.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import field, frozen

from collectord.crashid import depth_of, is_crash_id

_MINIDUMP = "upload_file_minidump"


@frozen
class StoredCrash:
    """A crash whose commit marker is in place."""

    raw_crash: Mapping[str, object] = field(repr=False)
    dumps: Mapping[str, bytes] = field(repr=False)


@frozen
class _File:
    """
    A file in the name branch.

    @ivar crash_id: empty for a file that is no part of any crash.
    @ivar dump: the dump's name, or empty for the raw crash.
    """

    path: Path
    crash_id: str
    dump: str = ""


def stored_crashes(root: Path) -> dict[str, StoredCrash]:
    """The crashes under C{root}; one whose raw crash can't be read does not count as one."""
    return _crashes(list(_files(root)))


def _crashes(files: Sequence[_File]) -> dict[str, StoredCrash]:
    files = [file for file in files if file.crash_id]
    dumps: dict[str, dict[str, bytes]] = {}
    for file in files:
        if file.dump:
            dumps.setdefault(file.crash_id, {})[file.dump] = file.path.read_bytes()
    raw_crashes = {file.crash_id: _raw_crash(file.path) for file in files if not file.dump}
    return {
        crash_id: StoredCrash(raw_crash, dumps.get(crash_id, {}))
        for crash_id, raw_crash in raw_crashes.items()
        if raw_crash is not None
    }


def part_files(root: Path) -> int:
    """How many bytes are spilled."""
    return sum(path.stat().st_size for path in root.glob("staging/*/*.part"))


def problems(root: Path) -> list[str]:
    """Whatever is not as the layout promises, in words; empty for a sound store."""
    files = list(_files(root))
    crashes = _crashes(files)
    return [
        *_misplaced(root, files),
        *_incomplete(files, crashes),
        *_bad_links(root, crashes),
        *_open_to_others(root),
        *_left_in_staging(root),
    ]


def below(directory: Path | str) -> Iterator[os.DirEntry[str]]:
    """All files and links below it, in order: much cheaper than C{Path.glob}. It need not be there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                yield from below(entry.path)
            else:
                yield entry


def waiting(root: Path) -> Sequence[str]:
    """What waits to be moved or published, as paths. Directories may go away meanwhile."""
    branches = [*(day / "date" for day in root.glob("[0-9]*")), root / "unpublished"]
    return [entry.path for branch in branches for entry in below(branch)]


def _branch(root: Path, name: str) -> Iterator[os.DirEntry[str]]:
    """What is in the name branch, or in the date branch, of each day."""
    for day in sorted(root.glob("[0-9]*")):
        yield from below(day / name)


def _files(root: Path) -> Iterator[_File]:
    for entry in _branch(root, "name"):
        path = Path(entry.path)
        crash_id, _, rest = path.name.partition(".")
        if not is_crash_id(crash_id) or entry.is_symlink():
            yield _File(path, "")
        elif rest == "json":
            yield _File(path, crash_id)
        elif rest == "dump":
            yield _File(path, crash_id, _MINIDUMP)
        elif rest.endswith(".dump"):
            yield _File(path, crash_id, rest.removesuffix(".dump"))
        else:
            yield _File(path, "")


def _raw_crash(path: Path) -> Mapping[str, object] | None:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _place(root: Path, crash_id: str) -> Path:
    pairs = [crash_id[at * 2 : at * 2 + 2] for at in range(depth_of(crash_id))]
    return root.joinpath(f"20{crash_id[-6:]}", "name", *pairs)


def _misplaced(root: Path, files: Sequence[_File]) -> Iterator[str]:
    for file in files:
        if not file.crash_id:
            yield f"{file.path.relative_to(root)}: not a file of a crash"
        elif file.path.parent != _place(root, file.crash_id):
            yield f"{file.crash_id}: lies in {file.path.parent.relative_to(root)}"


def _incomplete(files: Sequence[_File], crashes: Mapping[str, StoredCrash]) -> Iterator[str]:
    files = [file for file in files if file.crash_id]
    markers = {file.crash_id for file in files if not file.dump}
    for file in files:
        if file.dump and file.crash_id not in markers:
            yield f"{file.crash_id}: dump {file.dump} without its raw crash"
    for crash_id in sorted(markers - crashes.keys()):
        yield f"{crash_id}: the raw crash is not a JSON object"
    for crash_id, crash in crashes.items():
        if crash.raw_crash.get("uuid") != crash_id:
            yield f"{crash_id}: its raw crash says uuid {crash.raw_crash.get('uuid')!r}"
        metadata = crash.raw_crash.get("metadata")
        promised = metadata.get("dump_checksums") if isinstance(metadata, dict) else None
        found = {name: hashlib.sha256(content).hexdigest() for name, content in crash.dumps.items()}
        if promised != found:
            yield f"{crash_id}: dump_checksums say {promised}, but there is {found}"


def _bad_links(root: Path, crashes: Mapping[str, StoredCrash]) -> Iterator[str]:
    linked = set()
    for entry in _branch(root, "date"):
        path = Path(entry.path)
        name = path.relative_to(root)
        if not entry.is_symlink():
            yield f"{name}: not a symlink"
            continue
        linked.add(path.name)
        target = os.readlink(path)
        if os.path.isabs(target):
            yield f"{name}: points to the absolute {target}"
        elif not (path / f"{path.name}.json").exists():
            yield f"{name}: points to {target}, where its crash is not"
    for crash_id in sorted(crashes.keys() - linked):
        yield f"{crash_id}: no symlink in the date branch"


def _open_to_others(root: Path) -> Iterator[str]:
    for entry in below(root):
        if entry.is_file(follow_symlinks=False) and (mode := entry.stat(follow_symlinks=False).st_mode) & 0o077:
            yield f"{os.path.relpath(entry.path, root)}: mode {mode & 0o777:o}"


def _left_in_staging(root: Path) -> Iterator[str]:
    for entry in below(root / "staging"):
        is_claim = entry.name.endswith((".moving", ".publishing"))  # of a crash that is there, and does it no harm
        if entry.is_symlink() or (entry.name != "lock" and not is_claim):
            yield f"{os.path.relpath(entry.path, root)}: left in staging"
