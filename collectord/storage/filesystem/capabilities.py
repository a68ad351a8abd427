"""
What a file system can do, found out by trying what the commit of a crash does.

Some of these operations every store needs. Without the others, a store works in another way.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from stat import S_ISLNK

from attrs import fields_dict, frozen

from collectord.storage.files import sync_and_close
from collectord.storage.filesystem.fsops import (
    NOT_HERE,
    STILL_OPEN,
    create_empty,
    create_file,
    fsync_directory,
    remove_any,
    unlink_if_there,
)

_LONGEST_NAME = 80
"""The longest name of a file: a crash id, the name of a dump that came twice, and a suffix that tells the two apart."""

_CONTENT = b"What a store writes, "
_MORE = b"and what it adds."

_OF_THE_MOMENT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.ESTALE, errno.ENOTCONN, errno.EMFILE)
"""Errors that say nothing of what a file system can do."""


@frozen(kw_only=True)
class Capabilities:
    """
    What a file system can do, besides what every store needs.

    @ivar hard_links: a file may have two names. Otherwise it is renamed, or written twice.
    @ivar symlinks: there are symlinks. Otherwise a small file says that a crash is new.
    @ivar case: file names may differ only by case. Otherwise the names of such dumps get a number.
    @ivar modes: permissions can be set. Otherwise they are what the mount says.
    @ivar directory_sync: directories can be synced. Otherwise nobody knows when a name is durable.
    @ivar open_file_removal: an open file that is removed leaves its directory at once. Otherwise it leaves it when it
        is closed.
    """

    hard_links: bool = True
    symlinks: bool = True
    case: bool = True
    modes: bool = True
    directory_sync: bool = True
    open_file_removal: bool = True

    @property
    def missing(self) -> Sequence[str]:
        """What the file system can't do, in words."""
        return [name.replace("_", " ") for name in fields_dict(Capabilities) if not getattr(self, name)]


ALL = Capabilities()


class _Probe:
    """
    One probe, in a directory of its own.

    @param before: what the last probe found. If an operation worked then, an I/O error now does not mean that the file
        system lacks it.
    """

    def __init__(self, directory: str, before: Capabilities | None) -> None:
        self._before = before
        self._in = directory
        self._name_dir = f"{directory}/name"
        self._date_dir = f"{directory}/date"
        self._file = f"{self._name_dir}/file"

    def run(self) -> Capabilities:
        self._indispensable()
        return Capabilities(
            hard_links=self._has("hard_links", "link", self._link),
            symlinks=self._has("symlinks", "symlink", self._symlink),
            case=self._has("case", "create", self._case),
            modes=self._has("modes", "chmod", lambda: os.chmod(self._file, 0o640)),
            directory_sync=self._has("directory_sync", "fsync", self._sync_directory),
            open_file_removal=self._has("open_file_removal", "rmdir", self._remove_open),
        )

    def _has(self, ability: str, call: str, attempt: Callable[[], object]) -> bool:
        try:
            return attempt() is not False
        except OSError as e:
            known = self._before is not None and getattr(self._before, ability)
            if e.errno in NOT_HERE or (e.errno not in _OF_THE_MOMENT and not known):
                return False
            raise _describe_error(ability.replace("_", " "), call, e) from e

    def _indispensable(self) -> None:
        with needed("directories", "mkdir"):
            for directory in (self._in, self._name_dir, self._date_dir):
                os.mkdir(directory, 0o700)
        staged = f"{self._in}/staged"
        with needed("new files", "create"):
            fd = create_file(staged)
        _write(fd, _CONTENT)
        with needed("appends", "open"):
            fd = os.open(staged, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        _write(fd, _MORE, "appends")
        with needed("renames", "rename"):
            os.rename(staged, self._file)
        self._expect(self._file, "renames")
        create_empty(staged)
        with needed("renames over another file", "rename"):
            os.rename(self._file, staged)
        self._expect(staged, "renames over another file")
        with needed(f"names of {_LONGEST_NAME} characters", "rename"):
            os.rename(staged, f"{self._name_dir}/{'n' * _LONGEST_NAME}")
        with needed("renames", "rename"):
            os.rename(f"{self._name_dir}/{'n' * _LONGEST_NAME}", self._file)
        with needed("removals", "unlink"):
            create_empty(staged)
            os.unlink(staged)

    def _expect(self, path: str, what: str) -> None:
        """Make sure that the file at C{path} has what was written."""
        with needed(what, "read"), open(path, "rb") as file:
            if file.read() != _CONTENT + _MORE:
                raise OSError(errno.EIO, "it is not what was written")

    def _link(self) -> bool:
        os.link(self._file, f"{self._date_dir}/linked")
        with open(f"{self._date_dir}/linked", "rb") as file:
            return file.read() == _CONTENT + _MORE

    def _symlink(self) -> bool:
        mark = f"{self._date_dir}/mark"
        os.symlink("../name", mark)
        # Do not read it: sshfs lets nobody read a symlink with "..", though it works.
        return S_ISLNK(os.lstat(mark).st_mode)

    def _case(self) -> bool:
        create_empty(f"{self._date_dir}/case")
        try:
            create_empty(f"{self._date_dir}/CASE")
        except FileExistsError:
            return False
        return {"case", "CASE"} <= set(os.listdir(self._date_dir))

    def _sync_directory(self) -> None:
        sync_and_close(os.open(self._name_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _remove_open(self) -> bool:
        directory = f"{self._in}/open"
        os.mkdir(directory, 0o700)
        create_empty(f"{directory}/file")
        with open(f"{directory}/file", "rb"):
            os.unlink(f"{directory}/file")
            try:
                os.rmdir(directory)
            except OSError as e:
                if e.errno not in STILL_OPEN:
                    raise
                return False
        return True


def probe(staging: str, before: Capabilities | None = None) -> Capabilities:
    """
    Find out what the file system can do, by trying it in the directory C{staging}. Nothing is left there. It blocks.

    @param before: what the last probe found; None: there was none.

    @raise OSError: no store can be there; the text says what does not work.
    """
    directory = f"{staging}/probe"
    try:
        remove_any(directory)  # a probe that failed may have left it
    except OSError:
        directory += f"-{secrets.token_hex(4)}"
    try:
        return _Probe(directory, before).run()
    finally:
        with suppress(OSError):  # a sweep removes it
            remove_any(directory)


def try_out(staging: str, known: Capabilities) -> None:
    """
    Do in the directory C{staging} what the commit of one crash does. This is much cheaper than a probe. It blocks.

    @param known: what the last probe found.

    @raise OSError: something does not work; the text says what.
    """
    new, placed, mark = (f"{staging}/check-{name}" for name in ("new", "placed", "mark"))
    _clear(new, placed, mark)  # a check that failed may have left them
    try:
        with needed("new files", "create"):
            fd = create_file(new)
        _write(fd, _CONTENT)
        with needed("renames", "rename"):
            os.rename(new, placed)
        if known.symlinks:
            with needed("symlinks", "symlink"):
                os.symlink("../name", mark)
        with needed("syncs of directories", "fsync"):
            fsync_directory(staging)
    finally:
        _clear(new, placed, mark)


def _clear(*paths: str) -> None:
    with needed("removals", "unlink"):
        for path in paths:
            unlink_if_there(path)


def _write(fd: int, content: bytes, what: str = "writes") -> None:
    """Write C{content} to an open file, sync it and close it."""
    try:
        with needed(what, "write"):
            os.writev(fd, [content])
        with needed("syncs of files", "fsync"):
            os.fsync(fd)
    except OSError:
        with suppress(OSError):  # it may fail for the same reason
            os.close(fd)
        raise
    with needed(what, "close"):
        os.close(fd)


@contextmanager
def needed(what: str, call: str) -> Iterator[None]:
    """
    Make an error say which operation does not work here, for an operation that every store needs.

    @param what: the operation in plain words, in the plural.
    @param call: the system call.
    """
    try:
        yield
    except OSError as e:
        raise _describe_error(what, call, e) from e


def _describe_error(what: str, call: str, error: OSError) -> OSError:
    """
    C{error} with a text that says which operation does not work; unchanged if it says nothing of what the file system
    can do.
    """
    if error.errno in _OF_THE_MOMENT:
        return error
    code = errno.errorcode.get(error.errno or 0, str(error.errno))
    return OSError(error.errno, f"{what} do not work here ({call}: {code})")
