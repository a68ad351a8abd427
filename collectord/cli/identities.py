"""
C{collectord stores}: which stores there are, and whether what lies at their roots is what was there before.
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

    A store bears a mark, and the daemon remembers which store it has kept crashes in. One that comes up without its
    mark, with another, or on another file system is not used until it is adopted: its file system may not be mounted,
    and crashes kept in its mount point would be hidden once it is. Run this as the user of the daemon.
    """


@frozen(kw_only=True)
class StoreInfo:
    """
    A store of the settings, or one that is remembered.

    @ivar store_id: of its mark; None: it has none, or can't be read.
    @ivar is_ours: whether the settings name it.
    @ivar problem: why a daemon would not use it; empty: it would.
    """

    root: str
    store_id: str | None
    known: KnownStore | None
    mount: Mount | None = field(repr=False)
    is_ours: bool
    problem: str

    def row(self) -> dict[str, object]:
        """For scripts."""
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
    Every store and destination of the settings that is a file system, and what else is remembered.

    @raise OSError: what is remembered can't be read.
    @raise CannotRun: it may not be read by this user.
    """
    known = known_stores(settings)
    try:
        remembered = {store.root: store for store in known.all()}
    except PermissionError as e:
        whose = "what is remembered of the stores is for the user of the daemon, who has to run this"
        raise CannotRun(f"{e.filename}: {e.strerror}; {whose} (see [state] directory)") from e
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
    """What the daemon of these settings remembers."""
    return KnownStores(state_directory(settings.state.directory, os.environ))


def roots_of(settings: Settings) -> Mapping[str, Any]:
    """C{require_mount} of each store and destination that is a file system, by its root."""
    destinations = settings.crashmover.filesystem_tables()
    return {
        **{str(store.root.absolute()): store.require_mount for store in settings.storage},
        **{str(Path(each["root"]).absolute()): each.get("require_mount", False) for each in destinations},
    }


@stores.command("list", epilog=EXIT_STATUS)
@config_option
@json_option
def list_stores(config: Path | None, as_json: bool) -> None:
    """List the stores, with what is mounted there and why one is not used. With --json each is one line."""
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
    Let what lies at ROOT now be the store that belongs there: it gets a mark if it has none, and is remembered.

    A running daemon uses it after a few seconds. Look first whether a file system should be mounted there.

    \b
    sudo -u collectord collectord stores adopt /mnt/crashes
    """
    settings, root = load_settings(config), os.path.abspath(root)
    known = known_stores(settings)
    if root not in roots_of(settings):
        raise CannotRun(f"{root}: no store of these settings, which are {', '.join(roots_of(settings))}")
    if not os.path.isdir(root):
        raise CannotRun(f"there is nothing at {root}: make the directory, or mount its file system")
    try:
        store = identity.adopt(root, known)
    except PermissionError as e:
        whose = "the store and what is remembered belong to the user of the daemon, who has to run this"
        raise CannotRun(f"{root} is not adopted: {e.filename}: {e.strerror}; {whose}") from e
    if as_json:
        show_json({"root": root, "store_id": store.store_id, "state_directory": known.directory})
    else:
        show(f"{root} is the store {store.store_id} from now on; that is remembered in {known.directory}")


@stores.command(epilog=EXIT_STATUS)
@click.argument("root", type=click.Path())
@config_option
@json_option
def forget(root: str, config: Path | None, as_json: bool) -> None:
    """Remember nothing of ROOT any more, as of a store that was given up. What lies there stays as it is."""
    root = os.path.abspath(root)
    was_known = known_stores(load_settings(config)).forget(root)
    if as_json:
        show_json({"root": root, "forgotten": was_known})
    elif was_known:
        show(f"{root} is not remembered any more")
    if not was_known:
        say(f"{root} is not remembered")
        raise Exit(WRONG)
