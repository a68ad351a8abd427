"""
What the tests of the stores share: crashes to keep, ways to drive a store by hand, and disks that fail.
"""

import hashlib
import json
import os
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Barrier, Event
from typing import Any, ParamSpec, TypeVar, cast

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from collectord.concurrency.threadpool import CallFromThread
from collectord.metrics import REGISTRY
from collectord.model import MINIDUMP, Content, Crash, Dump, InMemory
from collectord.storage.filesystem.committer import GroupCommit, Outcomes
from collectord.storage.filesystem.existing import Existing
from collectord.storage.filesystem.identity import MARK
from collectord.storage.filesystem.layout import place_of
from collectord.storage.filesystem.spill import StagedFile, StagingArea
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.store import FilesystemCrashStorage, FilesystemSettings
from collectord.storage.filesystem.sweep import sweep
from collectord.storage.filesystem.sync import File, Sync, sync_each
from collectord.storage.filesystem.transaction import CommitLatch, CrashTransaction
from collectord.testing import running
from tests.support.disk import below, problems, stored_crashes

HOST = socket.gethostname()

P = ParamSpec("P")
T = TypeVar("T")

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
NEIGHBOUR = "8f63aaaa-57c6-4e5d-b2cf-cabde2160622"
STRANGER = "0bf1bbbb-57c6-4e5d-b2cf-cabde2160623"
NAMES = "20160622/name/8f/63"
SLOT = "20160622/date/15/19_49"
DUMPS: Mapping[str, bytes] = {MINIDUMP: b"MDMP minidump", "extra_2": b"something else"}


def in_reactor(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test of real threads: it runs in the reactor, and fails where it hangs."""

    return running.in_reactor(test, 2 * SOON)


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[list[LogEvent]]:
    """A failure that was logged fails the test, unless the test takes it out of this list."""
    seen: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            seen.append(event)

    observer = cast(ILogObserver, observe)
    globalLogPublisher.addObserver(observer)
    yield seen
    globalLogPublisher.removeObserver(observer)
    assert seen == []


@pytest.fixture
def reported() -> Iterator[Callable[[], list[str]]]:
    """The log lines of a test, by now."""
    seen: list[str] = []

    def observe(event: LogEvent) -> None:
        seen.append(formatEvent(event))

    observer = cast(ILogObserver, observe)
    globalLogPublisher.addObserver(observer)
    yield lambda: list(seen)
    globalLogPublisher.removeObserver(observer)


def dump_of(name: str, content: bytes, where: Content | None = None) -> Dump:
    """
    @param where: it lies; in memory, in two pieces, if nothing is said.
    """
    half = len(content) // 2
    return Dump(
        name=name,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        content=where or InMemory([content[:half], content[half:]]),
    )


def make_crash(
    crash_id: str = CRASH_ID,
    dumps: Mapping[str, bytes] = DUMPS,
    places: Mapping[str, Content] = {},
    submitted_timestamp: str = "2016-06-22T15:19:49.123456+00:00",
    fresh: bool = True,
    **annotations: object,
) -> Crash:
    """
    @param places: where dumps lie that are not in memory.
    @param fresh: no store looks for it before it comes to its place.
    """
    made = [dump_of(name, content, places.get(name)) for name, content in dumps.items()]
    raw_crash = {
        "ProductName": "Fenix",
        **annotations,
        "uuid": crash_id,
        "submitted_timestamp": submitted_timestamp,
        "metadata": {"dump_checksums": {dump.name: dump.sha256 for dump in made}},
    }
    return Crash(crash_id=crash_id, raw_crash=raw_crash, dumps=made, fresh=fresh)


async def bytes_of(content: Content) -> bytes:
    """All of it."""
    return b"".join([piece async for piece in content.chunks()])


def everything(root: Path) -> list[str]:
    """All files and links under C{root}, as paths from there, but for the locks and the mark of the store."""
    found = (entry for entry in below(root) if entry.name not in ("lock", MARK))
    return sorted(os.path.relpath(entry.path, root) for entry in found)


def of_crash(root: Path, crash_id: str = CRASH_ID) -> list[str]:
    """What there is of one crash, staging included."""
    return [path for path in everything(root) if crash_id in path]


def is_kept(root: Path, crash_id: str = CRASH_ID, dumps: Mapping[str, bytes] = DUMPS) -> bool:
    """Whether the crash is there, whole; an C{AssertionError} where it is neither whole nor absent."""
    found = stored_crashes(root).get(crash_id)
    if found is None:
        assert of_crash(root, crash_id) == []
        return False
    assert found.dumps == dumps
    assert [problem for problem in problems(root) if crash_id in problem] == []
    return True


def descriptors() -> Iterator[tuple[int, str]]:
    """What this process has open, and where it is."""
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        yield int(fd), path


def open_files(root: Path) -> list[str]:
    """What this process has open under C{root}."""
    return sorted(path for _, path in descriptors() if path.startswith(str(root)))


def close_held(path: Path | str) -> None:
    """Close a file that this process holds open, as the kernel does it for one that dies."""
    (fd,) = [fd for fd, held in descriptors() if held == str(path)]
    os.close(fd)


def die(staging: StagingDirectory) -> None:
    """Let the process die that has this staging directory: it holds its lock no more."""
    close_held(f"{staging.path}/lock")


@define(eq=False)
class RecordingSync:
    """
    A sync that tells what it was asked for.

    @ivar calls: the paths of the files and of the directories of each.
    @ivar fails: by path.
    @ivar meanwhile: called in the middle of each.
    """

    inner: Sync = sync_each
    calls: list[tuple[set[str], set[str]]] = field(factory=list)
    fails: Callable[[str], bool] = lambda path: False
    meanwhile: Callable[[], object] = lambda: None

    def __call__(self, files: Sequence[File], directories: Any, /) -> dict[str, OSError]:
        paths, asked = {path for path, _ in files}, set(directories)
        self.calls.append((paths, asked))
        failed = self.inner(files, asked)
        self.meanwhile()
        return failed | {path: OSError(5, "injected", path) for path in paths | asked if self.fails(path)}


@define(eq=False)
class Rig:
    """One store's committing thread, driven by hand."""

    root: Path
    staging: StagingDirectory
    sync: RecordingSync
    commit: GroupCommit
    resolved: list[tuple[CommitLatch, OSError | None]]

    def transaction(
        self, crash: Crash, latch: CommitLatch | None = None, existing: Existing | None = None
    ) -> CrashTransaction:
        return CrashTransaction(crash, place_of(str(self.root), crash), latch or CommitLatch(), existing)

    def errors(self, *transactions: CrashTransaction) -> list[OSError | None]:
        """What was told of each; a C{KeyError} where nothing was."""
        outcomes = dict(self.resolved)
        return [outcomes[transaction.latch] for transaction in transactions]

    def save(self, *transactions: CrashTransaction) -> None:
        """Let a group pass through both syncs."""
        self.commit.commit([], self.commit.commit(transactions, []))

    def spill(self, content: bytes) -> StagedFile:
        """A dump on disk in this store's staging area."""
        area = StagingArea(self.staging, at_once, lambda: 0, lambda: None)
        dump = area.new_dump()
        Deferred.fromCoroutine(dump.append([content]))
        return dump


def at_once(work: Callable[[], Any]) -> Deferred[Any]:
    """In no thread."""
    return maybeDeferred(work)


def make_rig(root: Path, modes: Modes | None = None, refuse_full: Callable[[], int] = lambda: 0) -> Rig:
    """On a new or used C{root}; its staging directory is made."""
    staging = StagingDirectory(str(root), modes or Modes())
    staging.make()
    sync = RecordingSync()

    def note(group: Outcomes) -> None:
        made.resolved.extend(group)

    made = Rig(root, staging, sync, GroupCommit(str(root), staging, sync, refuse_full, note), [])
    _RIGS.append(made)
    return made


_RIGS: list[Rig] = []


@pytest.fixture(autouse=True)
def rigs_end() -> Iterator[None]:
    """No rig holds its lock when its test is over, as no process does when it has ended."""
    yield
    while _RIGS:
        with suppress(ValueError):
            die(_RIGS.pop().staging)


def value_of(metric: str, store: object) -> float:
    """Of one store, by now."""
    return REGISTRY.get_sample_value(f"collectord_{metric}", {"store": str(store)}) or 0.0


RECORD = json.dumps(make_crash().raw_crash)
"""The intent record of a crash."""


def dead(root: Path, name: str = f"{HOST}-99999-00c0ffee") -> Path:
    """The staging directory of a process that died."""
    path = root / "staging" / name
    path.mkdir(parents=True)
    (path / "lock").touch()
    return path


def sweep_store(root: Path) -> int:
    """As a process does when it starts."""
    staging = StagingDirectory(str(root), Modes())
    staging.make()
    try:
        swept = sweep(staging)
        for error in swept.failed:
            raise error
        return swept.files
    finally:
        staging.remove()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a store; it is not there yet."""
    return tmp_path / "crashes"


@pytest.fixture
def rig(root: Path) -> Iterator[Rig]:
    """A store of its own, and no descriptor more in the end than in the beginning."""
    rig = make_rig(root)
    yield rig
    held = [(fd, path) for fd, path in descriptors() if path.startswith(str(root))]
    assert [path for _, path in held] == [f"{rig.staging.path}/lock"]
    os.close(held[0][0])  # here, since to look for it again takes longer than many a test
    _RIGS.remove(rig)


CHANGES = ("open", "writev", "rename", "symlink", "link", "mkdir", "unlink", "fsync", "close")
"""What a store does to a disk."""


@define
class Disk:
    """
    The operations of this process on the files of one directory.

    @ivar seen: how many of those that are watched came so far.
    """

    root: Path
    seen: int = 0

    def concerns(self, args: tuple[object, ...]) -> bool:
        path = args[0]
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return False
        others = [other for other in args if isinstance(other, str)]
        return any(other.startswith(str(self.root)) for other in [str(path), *others])


@contextmanager
def watched(
    root: Path,
    operations: Sequence[str],
    happen: Callable[[int, str, Callable[[], Any]], Any],
) -> Iterator[Disk]:
    """
    Let C{happen} do the operations on files under C{root}; it gets their numbers, from 1, their names, and how to do
    them.
    """
    disk = Disk(root)

    def watching(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            if not disk.concerns(args):
                return real(*args, **kwargs)
            disk.seen += 1
            return happen(disk.seen, name, lambda: real(*args, **kwargs))

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in operations:
            patch.setattr(os, name, watching(name, getattr(os, name)))
        yield disk


@contextmanager
def failing(root: Path, operation: str, number: int, error: OSError) -> Iterator[Disk]:
    """Let one operation of this name fail: the one of this number, from 1."""

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if seen == number:
            if name == "close":  # the kernel closes it nevertheless
                do()
            raise error
        return do()

    with watched(root, [operation], happen) as disk:
        yield disk


@contextmanager
def noted_syncs() -> Iterator[list[str]]:
    """The paths of all files and directories that this process syncs meanwhile, in order."""
    synced, fsync = list[str](), os.fsync

    def note(fd: int) -> None:
        fsync(fd)
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", note)
        yield synced


SOON = 15.0
"""Seconds in which a thread does what it is there for."""


@define(eq=False)
class Gate:
    """Where operations hang until it is opened."""

    _open: Event = field(factory=Event)
    _reached: Event = field(factory=Event)

    def open(self) -> None:
        """Let everything go on."""
        self._open.set()

    def wait_until_reached(self) -> None:
        """Until something hangs."""
        assert self._reached.wait(SOON)

    def pass_through(self) -> None:
        """Hang."""
        self._reached.set()
        assert self._open.wait(SOON)


@contextmanager
def hanging(root: Path, *operations: str) -> Iterator[Gate]:
    """Let the operations on files under C{root} hang; at the end the gate is opened."""
    gate = Gate()

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        gate.pass_through()
        return do()

    with watched(root, operations, happen):
        try:
            yield gate
        finally:
            gate.open()


def make_store(root: Path, clock: IReactorTime | None = None, **settings: Any) -> FilesystemCrashStorage:
    """On threads, and in the reactor."""
    from twisted.internet import reactor

    call = cast(CallFromThread, reactor.callFromThread)  # type: ignore[attr-defined]
    store = FilesystemCrashStorage(FilesystemSettings(root=str(root), **settings), call, clock or Clock())
    _STORES.append(store)
    return store


_STORES: list[FilesystemCrashStorage] = []


@pytest.fixture(autouse=True)
def stores_end() -> Iterator[None]:
    """The threads of a store end soon after its test, unless they hang: then nobody waits for them."""
    yield
    while _STORES:
        Deferred.fromCoroutine(_STORES.pop().close()).addErrback(lambda failure: None)


async def spilling_done(store: FilesystemCrashStorage) -> None:
    """Wait until each thread that spills has done what it had to do."""
    together = Barrier(FilesystemSettings(root="").threads)
    await gatherResults([store._workers(lambda: together.wait(SOON)) for _ in range(together.parties)])


def started(work: Coroutine[Any, Any, T]) -> Deferred[T]:
    """C{work}, under way."""
    return Deferred.fromCoroutine(work)


async def error_of(work: Coroutine[Any, Any, Any] | Deferred[Any]) -> Exception:
    """What C{work} raises."""
    try:
        result = await work
    except Exception as error:
        return error
    raise AssertionError(f"no error, but {result!r}")
