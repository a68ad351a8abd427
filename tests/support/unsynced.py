"""
A file system that keeps what was synced, and of the rest whatever hurts most: what a power cut may leave.

Real disks are kinder: ext4 writes its journal in order, and takes what nobody synced along with what somebody did. So a
missing sync is seldom found out by a real cut, and always here.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen

Tree = Mapping[str, bytes]
"""The content of each file, by its path from the base."""


class Target(bytes):
    """What a symlink says, in a L{Tree}."""


LOST = b"what was written and not synced"


@frozen
class _Change:
    """
    An entry of a directory that is new (C{node}), or gone (None). A rename is two of them, which come together.
    """

    directory: int
    name: str
    node: int | None


@frozen
class _Step:
    """
    One thing that was done.

    @ivar changes: of directories.
    @ivar synced: a directory whose changes are durable from now on.
    @ivar contents: of a file that was synced.
    @ivar said: what the test said when it was done.
    """

    said: Any
    changes: Sequence[_Change] = ()
    synced: int = 0
    contents: Mapping[int, bytes] = {}


@define
class Unsynced:
    """Remembers what a test does below one directory, which is durable to begin with."""

    base: Path
    said: Callable[[], Any]
    _ids: Iterator[int] = field(factory=lambda: count(1))
    _by_inode: dict[int, int] = field(factory=dict)
    _entries: dict[int, dict[str, int]] = field(factory=dict)
    _contents: dict[int, bytes] = field(factory=dict)
    _steps: list[_Step] = field(factory=list)

    def begin(self) -> None:
        """Look at what is there."""
        self._new(str(self.base))
        for directory, directories, files in os.walk(self.base):
            for name in [*directories, *files]:
                path = f"{directory}/{name}"
                found = os.lstat(path)
                node = self._by_inode[found.st_ino] if found.st_ino in self._by_inode else self._new(path)
                self._entries[self._id(directory)][name] = node
                if stat.S_ISREG(found.st_mode):
                    self._contents[node] = Path(path).read_bytes()

    def _new(self, path: str) -> int:
        found = os.lstat(path)
        node = self._by_inode[found.st_ino] = next(self._ids)
        if stat.S_ISDIR(found.st_mode):
            self._entries[node] = {}
        if stat.S_ISLNK(found.st_mode):
            self._contents[node] = Target(os.readlink(path).encode())
        return node

    def _id(self, path: str) -> int:
        return self._by_inode[os.lstat(path).st_ino]

    def _change(self, path: str, node: int | None) -> _Change:
        return _Change(self._id(os.path.dirname(path)), os.path.basename(path), node)

    def done(self, *changes: _Change) -> None:
        self._steps.append(_Step(self.said(), changes))

    def watching(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """C{os.<name>}, which remembers what it did."""

        def operation(*args: Any, **named: Any) -> Any:
            if name == "fsync":
                return self._sync(args[0], real)
            within = f"{_path(named['dir_fd'])}/" if named.get("dir_fd") is not None else ""
            paths = [f"{within}{arg}" for arg in args if isinstance(arg, str | Path)]
            if not paths or not paths[-1].startswith(f"{self.base}/"):
                return real(*args, **named)
            path = paths[-1]
            if name == "open":
                is_new = bool(args[1] & os.O_CREAT) and not os.path.lexists(path)
                result = real(*args, **named)
                if is_new:
                    self.done(self._change(path, self._new(path)))
                return result
            if name in ("unlink", "rmdir"):
                gone = self._change(path, None) if os.path.lexists(path) else None
                real(*args, **named)
                assert gone is not None
                self.done(gone)
            elif name == "rename":
                source, node = self._change(paths[0], None), self._id(paths[0])
                real(*args, **named)
                self.done(source, self._change(path, node))
            elif name == "link":
                real(*args, **named)
                self.done(self._change(path, self._id(path)))
            else:  # mkdir, symlink
                real(*args, **named)
                self.done(self._change(path, self._new(path)))
            return None

        return operation

    def _sync(self, fd: int, real: Callable[[int], None]) -> None:
        real(fd)
        found = os.fstat(fd)
        node = self._by_inode.get(found.st_ino)
        if node is None:
            return
        if stat.S_ISDIR(found.st_mode):
            self._steps.append(_Step(self.said(), synced=node))
        else:
            with open(f"/proc/self/fd/{fd}", "rb") as file:
                self._steps.append(_Step(self.said(), contents={node: file.read()}))

    def cuts(self, *, in_order: bool) -> Iterator[tuple[Any, Tree]]:
        """
        What may be there after a power cut at each moment, with what the test had said by then.

        @param in_order: the changes of each directory become durable in their order; else in any.
        """
        entries = {node: dict(names) for node, names in self._entries.items()}
        contents = dict(self._contents)
        pending: list[_Step] = []
        for step in self._steps:
            contents |= step.contents
            if step.changes:
                pending.append(step)
            if step.synced:
                for durable in [s for s in pending if step.synced in {c.directory for c in s.changes}]:
                    pending.remove(durable)
                    _apply(entries, durable)
            for kept in _choices(pending, in_order=in_order):
                seen = {node: dict(names) for node, names in entries.items()}
                for each in kept:
                    _apply(seen, each)
                yield step.said, self._tree(seen, contents)

    def _tree(self, entries: Mapping[int, Mapping[str, int]], contents: Mapping[int, bytes]) -> Tree:
        tree: dict[str, bytes] = {}
        directories = {change.node for step in self._steps for change in step.changes} & self._entries.keys()

        def walk(node: int, path: str) -> None:
            for name, inner in entries.get(node, {}).items():
                if inner in self._entries or inner in directories:
                    walk(inner, f"{path}{name}/")
                else:
                    tree[f"{path}{name}"] = contents.get(inner, LOST)

        walk(self._by_inode[os.lstat(self.base).st_ino], "")
        return tree


def lay_out(tree: Tree, base: Path) -> None:
    """Make what is in C{tree} below C{base}."""
    for name, content in tree.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Target):
            path.symlink_to(content.decode())
        else:
            path.write_bytes(content)
            path.chmod(0o600)


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _apply(entries: dict[int, dict[str, int]], step: _Step) -> None:
    for change in step.changes:
        names = entries.setdefault(change.directory, {})
        if change.node is None:
            names.pop(change.name, None)
        else:
            names[change.name] = change.node


def _choices(pending: Sequence[_Step], *, in_order: bool) -> Iterator[Sequence[_Step]]:
    """Which of the changes that are not synced are there nevertheless: all, none, all but one, only one."""
    yield pending
    yield ()
    for n, without in enumerate(pending):
        if in_order:
            gone: set[int] = {change.directory for change in without.changes}
            kept = list(pending[:n])
            for step in pending[n + 1 :]:
                if gone.isdisjoint(change.directory for change in step.changes):
                    kept.append(step)
                else:
                    gone |= {change.directory for change in step.changes}
            yield kept
        else:
            yield [*pending[:n], *pending[n + 1 :]]
            yield [without]


@contextmanager
def unsynced(base: Path, said: Callable[[], Any] = lambda: None) -> Iterator[Unsynced]:
    """
    Watch what is done below C{base}.

    @param said: is asked after each step for what the test wants to know of that moment.
    """
    watched = Unsynced(base, said)
    watched.begin()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "link", "symlink", "rename", "unlink", "rmdir", "mkdir", "fsync"):
            patch.setattr(os, name, watched.watching(name, getattr(os, name)))
        yield watched
