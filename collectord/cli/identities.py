"""
C{collectord stores}: says whether each root holds the store that was there before, and adopts another one.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from attrs import field, frozen
from click.exceptions import Exit
from rich.text import Text

from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    add_row,
    config_option,
    json_option,
    say,
    show,
    show_json,
    table,
)
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.storage.filesystem import identity
from collectord.storage.filesystem.identity import StoreIdentity, read_mark
from collectord.storage.filesystem.known import KnownStore, KnownStores, state_directory
from collectord.storage.filesystem.mounted import Mount, mount_of

_GIVEN_UP = "not in these settings; if it was given up, run: collectord stores forget {root}"


@click.group(epilog=EXIT_STATUS)
def stores() -> None:
    """
    Look after the identity of the stores.

    Each store has a mark, and the daemon remembers in which stores it has kept crashes. A store that comes up without
    its mark, with another mark, or on another file system is not used until it is adopted. Its file system may not be
    mounted, and crashes kept in the empty mount point would be hidden once it is. Run this as the user of the daemon.
    """


@frozen(kw_only=True)
class StoreInfo:
    """
    What was found at the root of a store that the settings name, or that the daemon remembers.

    @ivar store_id: the id in its mark; None if there is no mark, or it can't be read.
    @ivar known: what the daemon remembers of it; None if it remembers nothing.
    @ivar mount: the file system at the root; None if that can't be found out.
    @ivar is_ours: whether the settings name it.
    @ivar problem: why a daemon would not use it; empty if it would.
    """

    root: str
    store_id: str | None
    known: KnownStore | None
    mount: Mount | None = field(repr=False)
    is_ours: bool
    problem: str

    def row(self) -> dict[str, object]:
        """Return what C{--json} shows of it."""
        return {
            "root": self.root,
            "store_id": self.store_id,
            "remembered": None if self.known is None else self.known.store_id,
            "mount_point": self.mount and self.mount.point,
            "file_system": self.mount and self.mount.kind,
            "source": self.mount and self.mount.source,
            "in_settings": self.is_ours,
            "problem": self.problem or None,
        }


def store_infos(settings: Settings) -> Iterator[StoreInfo]:
    """
    Look at every store and every destination of the settings that is a file system, and at what else is remembered.

    @raise OSError: what is remembered can't be read.
    @raise CannotRun: this user may not read what is remembered.
    """
    known = known_stores(settings)
    try:
        remembered = {store.root: store for store in known.all()}
    except PermissionError as e:
        advice = "only the user of the daemon may read what it remembers of the stores: run this as that user"
        raise CannotRun(f"{e.filename}: {e.strerror}; {advice} (see [state] directory)") from e
    required = roots_of(settings)
    for root in dict.fromkeys([*required, *remembered]):
        problem = StoreIdentity(root, known, required.get(root, False)).problem()
        try:
            store_id = read_mark(root)
        except OSError:
            store_id = None
        yield StoreInfo(
            root=root,
            store_id=store_id,
            known=remembered.get(root),
            mount=mount_of(root),
            is_ours=root in required,
            problem=problem,
        )


def known_stores(settings: Settings) -> KnownStores:
    """Return what the daemon with these settings remembers of its stores."""
    return KnownStores(state_directory(settings.state.directory, os.environ))


def roots_of(settings: Settings) -> Mapping[str, Any]:
    """Return the setting C{require_mount} of each store and destination that is a file system, by its root."""
    destinations = settings.crashmover.filesystem_tables()
    return {
        **{str(store.root.absolute()): store.require_mount for store in settings.storage},
        **{str(Path(each["root"]).absolute()): each.get("require_mount", False) for each in destinations},
    }


@stores.command("list", epilog=EXIT_STATUS)
@config_option
@json_option
def list_stores(config: Path | None, as_json: bool) -> None:
    """
    List the stores.

    This shows what is mounted at each, and why the daemon would not use it. With --json there is one line for each
    store. The exit status is 1 if the daemon would not use one.
    """
    settings = load_settings(config)
    infos = list(store_infos(settings))
    if as_json:
        for store in infos:
            show_json(store.row())
    else:
        _show(settings, infos)
    if any(store.problem and store.is_ours for store in infos):
        raise Exit(WRONG)


def _show(settings: Settings, infos: list[StoreInfo]) -> None:
    shown = table("store", "mark", "remembered", "is on", "")
    for store in infos:
        mount = "unknown" if store.mount is None else f"{store.mount.point} ({store.mount.kind}, {store.mount.source})"
        remembered = "no" if store.known is None else "yes" if store.known.store_id == store.store_id else "another"
        what = Text(store.problem, "red") if store.is_ours else Text(_GIVEN_UP.format(root=store.root))
        add_row(shown, store.root, store.store_id or "none", remembered, mount, what)
    show(f"remembered in {known_stores(settings).directory}", shown)


@stores.command(epilog=EXIT_STATUS)
@click.argument("root", type=click.Path())
@config_option
@json_option
def adopt(root: str, config: Path | None, as_json: bool) -> None:
    """
    Accept the store at ROOT as the right one.

    The store gets a mark if it has none, and the daemon remembers it. A running daemon uses it after a few seconds.
    Before you do this, check whether a file system should be mounted there.

    \b
    sudo -u collectord collectord stores adopt /mnt/crashes
    """
    settings, root = load_settings(config), os.path.abspath(root)
    known = known_stores(settings)
    if root not in roots_of(settings):
        raise CannotRun(f"{root} is not a store of these settings; their stores are {', '.join(roots_of(settings))}")
    if not os.path.isdir(root):
        raise CannotRun(f"there is no directory at {root}: make it, or mount its file system")
    try:
        store = identity.adopt(root, known)
    except PermissionError as e:
        advice = "the store, and what is remembered of it, belong to the user of the daemon: run this as that user"
        raise CannotRun(f"{root} is not adopted: {e.filename}: {e.strerror}; {advice}") from e
    if as_json:
        show_json({"root": root, "store_id": store.store_id, "state_directory": known.directory})
    else:
        show(f"{root} is adopted as the store {store.store_id}; that is remembered in {known.directory}")


@stores.command(epilog=EXIT_STATUS)
@click.argument("root", type=click.Path())
@config_option
@json_option
def forget(root: str, config: Path | None, as_json: bool) -> None:
    """
    Forget the store at ROOT.

    Use this for a store that was given up: the daemon does not expect it any more. The files there stay as they are.
    """
    root = os.path.abspath(root)
    was_known = known_stores(load_settings(config)).forget(root)
    if as_json:
        show_json({"root": root, "forgotten": was_known})
    elif was_known:
        show(f"{root} is not remembered any more")
    if not was_known:
        say(f"{root} is not remembered")
        raise Exit(WRONG)
