"""
Checks of settings that are each right by themselves but can't be right together, and of the file that they are in.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from collectord.errors import ConfigError
from collectord.settings.loading import SECRETS
from collectord.settings.paths import nested, others_can_read, relative
from collectord.settings.schema import Settings
from collectord.settings.urls import redacted_url

_JOURNALS = "ledger"
_CRASHPAD_S = 60.0
"""Seconds after which Crashpad and its descendants give up a report, counted from when they began to send it."""
_FIREFOX_PREFIX = "bp-"
_OF_THE_SYSTEM = re.compile(r"systemd:|\w+:(port=)?0\b")
"""The beginning of an address whose port the system chooses, or has opened already."""
_KEYS = "keys"
"""The name of the tables whose keys, those of dialects, are secret."""
_MORE_SECRETS = frozenset({"access_key", "secret_key", "password"})


def refuse_odd_places(settings: Settings, *, service: bool) -> None:
    """
    Check the directories of stores, destinations and the journal. This blocks, since symlinks are followed.

    @param service: whether the daemon runs as a service, which may be started in any directory.

    @raise ConfigError: one of them lies in another, or is relative in a service.
    """
    problems = places_that_depend(settings) if service else []
    problem = nested(_places(settings)) or _ledger_in_a_store(settings)
    if problem:
        problems = [*problems, problem]
    if problems:
        raise ConfigError("\n".join(problems))


def refuse_same_addresses(settings: Settings) -> None:
    """
    Check that no address is there twice. Different texts may still mean the same port.

    @raise ConfigError: an address is in a list twice, or in both.
    """
    found: dict[str, str] = {}
    for where, addresses in (("submission", settings.submission.listen), ("admin", settings.admin.listen)):
        for address in addresses:
            if address in found and not _OF_THE_SYSTEM.match(address):
                raise ConfigError(f"[{where}] listen = {address!r}: is in [{found[address]}] listen already")
            found[address] = where


def places_that_depend(settings: Settings) -> Sequence[str]:
    """Describe each path that is relative, and would be refused if the daemon ran as a service."""
    others = [
        ("[state] directory", settings.state.directory),
        ("[ledger] directory", settings.ledger.directory),
        ("[submission] drain_file", settings.submission.drain_file),
    ]
    return relative([*_places(settings), *((name, path) for name, path in others if path is not None)])


def _places(settings: Settings) -> Sequence[tuple[str, Path]]:
    places = [(f"[[storage]] {number} root", store.root) for number, store in enumerate(settings.storage)]
    if settings.crashmover.enabled:
        places += [("[[crashmover.destination]] root", root) for root in settings.crashmover.roots_as_written()]
    return places


def _ledger_in_a_store(settings: Settings) -> str:
    """Describe a journal that lies in a store but is not C{<root>/ledger}, which is its default; else return ""."""
    directory = settings.ledger.directory
    if not settings.ledger.enabled or directory is None:
        return ""
    path = Path(os.path.abspath(directory))
    for name, root in _places(settings):
        around = Path(os.path.abspath(root))
        if path == around or path in around.parents or (around in path.parents and path != around / _JOURNALS):
            return f"[ledger] directory = {str(directory)!r}: is not apart from {name} = {str(root)!r}"
    return ""


def odd_for_clients(settings: Settings) -> Iterator[str]:
    """
    Describe answers that clients don't understand, or don't wait for, so that they never learn what became of a crash.
    """
    seconds, prefix = settings.submission.patience_s, settings.submission.dump_id_prefix
    if seconds >= _CRASHPAD_S:
        yield f"[submission] patience_s = {seconds:g}: Crashpad gives up {_CRASHPAD_S:g} s after it has begun to send"
    if prefix != _FIREFOX_PREFIX:
        yield (
            f"[submission] dump_id_prefix = {prefix!r}: Firefox's own pages (about:crashes) take only ids that begin "
            f"with {_FIREFOX_PREFIX}: what is sent from there counts as not sent"
        )


def warnings_about(file: Path) -> Sequence[str]:
    """Describe what the operator should change about a settings file that can be used. This blocks."""
    try:
        if others_can_read(file) and _has_secrets(tomllib.loads(file.read_text("utf-8"))):
            return [f"{file}: there are secrets in it, and all users of this host can read it: chmod o= {file}"]
    except (OSError, ValueError):
        pass  # the file was read a moment ago; if it can't be read now, the next reload says so
    return []


def _has_secrets(value: object, key: str = "") -> bool:
    if isinstance(value, dict):
        return key == _KEYS or any(_has_secrets(each, name) for name, each in value.items())
    if isinstance(value, list):
        return any(_has_secrets(each) for each in value)
    if not isinstance(value, str) or not value:
        return False
    return key in SECRETS | _MORE_SECRETS or ("://" in value and redacted_url(value) != value)
