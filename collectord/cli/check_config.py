"""
C{collectord check-config}: says whether the daemon would start with these settings.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from attrs import asdict
from click.exceptions import Exit
from twisted.internet.selectreactor import SelectReactor

from collectord import __version__
from collectord.cli.identities import store_infos
from collectord.cli.plugged import TriedOut, run_in_reactor, try_all
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    add_row,
    config_option,
    counted,
    facts,
    json_option,
    processes_in_words,
    say,
    shortened,
    show,
    show_json,
    table,
)
from collectord.daemon.admin import admin_listeners
from collectord.daemon.backends import build_backends
from collectord.daemon.certificates import problem_of
from collectord.daemon.delivery import DeliveryPipeline
from collectord.errors import ConfigError
from collectord.net.listeners import Listeners
from collectord.observe.sentry import sentry_observer
from collectord.settings.loading import DEFAULT_PATH
from collectord.settings.paths import is_service
from collectord.settings.sanity import places_that_depend
from collectord.settings.schema import Settings
from collectord.settings.snapshot import SettingsSnapshot, load
from collectord.settings.stores import Storage
from collectord.storage.filesystem.access import refuse_unusable_today
from collectord.storage.filesystem.mounted import cautions_at, mount_of, unsynced_by_syncfs
from collectord.storage.filesystem.space import total_bytes
from collectord.storage.filesystem.unpublished import count_unpublished, left_over_in_words, without_publisher
from collectord.throttle import Rule
from collectord.throttle.load import differences_in
from collectord.throttle.wording import condition_in_words, outcome_in_words
from collectord.units import size_in_words

_KINDS = {"moved": "destination", "published": "publisher"}


@click.command("check-config", epilog=EXIT_STATUS)
@click.option("--connect", is_flag=True, help="Also try each destination and publisher for real, as the daemon does.")
@config_option
@json_option
def check_config(connect: bool, config: Path | None, as_json: bool) -> None:
    """
    Check the settings, and show them.

    This does what the daemon does at its start, but opens no port, makes no directory, and connects to no server. With
    --connect it tries the destinations and publishers: those write what they write to try a server, and remove it.

    The environment (COLLECTORD_…) counts too, as for the daemon. Secrets are not shown. The exit status is 1 if the
    daemon would not start, or would not use one of its stores. Run this as the user of the daemon: root can write
    everywhere, so as root it can't find a store to which the daemon can't.

    \b
    collectord check-config --config /etc/collectord/collectord.toml
    """
    try:
        snapshot = load(config, service=is_service(os.environ, has_terminal=sys.stdin.isatty()))
        settings, rules = snapshot.settings, snapshot.rules
        sinks = _sinks(snapshot)
        listeners = (Listeners(settings.submission.listen, "submission", None), admin_listeners(settings, None))
        validities = [validity for each in listeners for validity in each.validities()]
        sentry_observer(settings.sentry, __version__)
        _refuse_idle_syncs(settings)
        _refuse_unusable_roots(settings)
        _refuse_other_stores(settings)
    except ConfigError as e:
        if as_json:
            show_json({"ok": False, "problems": str(e).splitlines()})
        else:
            say(e)
        raise Exit(WRONG) from e
    now = time.time()
    expiring = [f"{validity.listen}: {problem}" for validity in validities if (problem := problem_of(validity, now))]
    warnings = [*snapshot.warnings, *places_that_depend(settings), *expiring]
    warnings += _left_over(settings, sinks)
    tried = run_in_reactor(partial(try_all, settings)) if connect else ()
    warnings += [f"{each.name}: {caution}" for each in tried for caution in each.cautions]
    problems = [each.named_problem for each in tried if each.problem]
    if as_json:
        found = {**_as_json(settings, rules, sinks), "ok": not problems, "problems": problems, "warnings": warnings}
        show_json({**found, **({"connected": [asdict(each) for each in tried]} if connect else {})})
    else:
        for warning in warnings:
            say(f"warning: {warning}")
        _show(config, settings, rules, sinks, tried)
        for problem in problems:
            say(problem)
    if problems:
        raise Exit(WRONG)


def _sinks(snapshot: SettingsSnapshot) -> Sequence[tuple[str, str]]:
    """Make each destination and publisher, and return its kind and name. They are never used."""
    reactor: Any = SelectReactor()  # It never runs.
    backends, names = build_backends(snapshot.settings, reactor)
    try:
        delivery = DeliveryPipeline(snapshot.settings, backends, names, lambda event: None, reactor)
    except ConfigError as e:
        raise e.about(snapshot.source) from e
    return [(_KINDS[sink.kind], sink.name) for sink in delivery.sinks]


def _as_json(settings: Settings, rules: Sequence[Rule], sinks: Sequence[tuple[str, str]]) -> dict[str, object]:
    shown = settings.model_dump(mode="json")
    for section, key in (("submission", "submitter_token"), ("admin", "token"), ("sentry", "dsn")):
        shown[section][key] = _secret(shown[section][key])
    for row in shown["submission"]["dialect"]:
        row.update({key: _secret("keys") for key in row if key == "keys"})
    for kind in ("destination", "publisher"):  # Their tables may hold passwords, so only their names are shown.
        shown["crashmover"][kind] = [name for sink, name in sinks if sink == kind]
    return {
        "ok": True,
        "problems": [],
        "cautions": {root: list(cautions) for root, cautions in _cautions(settings)},
        "settings": shown,
        "rules": [rule.name for rule in rules],
        "notes": differences_in(rules),
    }


def _filesystems(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the root of each store and destination that is a file system, and its setting C{sync}."""
    for store in settings.storage:
        yield str(store.root.absolute()), store.sync
    for root, sync in settings.crashmover.filesystems():
        yield str(root), sync


def _refuse_idle_syncs(settings: Settings) -> None:
    problems = [
        f"{root}: {problem}"
        for root, sync in _filesystems(settings)
        if sync == "filesystem" and (problem := unsynced_by_syncfs(mount_of(root)))
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _refuse_unusable_roots(settings: Settings) -> None:
    """
    Refuse a root that is a file, or below one, and one to which this user may not write.

    The daemon makes a missing root, which needs a directory above it.
    """
    problems = []
    for root, _sync in _filesystems(settings):
        there = next(path for path in (Path(root), *Path(root).parents) if os.path.exists(path))
        if not there.is_dir():
            problems.append(f"{root}: {there} is not a directory")
        else:
            try:
                refuse_unusable_today(str(there))
            except PermissionError as e:
                problems.append(f"{root}: this user can't write to {e.filename}")
            except OSError as e:
                problems.append(f"{root}: {e.strerror} ({e.filename})")
    if problems:
        raise ConfigError("\n".join(problems))


def _refuse_other_stores(settings: Settings) -> None:
    problems = [f"{each.root}: {each.problem}" for each in store_infos(settings) if each.is_ours and each.problem]
    if problems:
        raise ConfigError("\n".join(problems))


def _cautions(settings: Settings) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the root of each file system that can't promise everything, and what it can't promise."""
    stores = {str(store.root.absolute()): store for store in settings.storage}
    for root, _ in _filesystems(settings):
        if cautions := [*cautions_at(root), *(_too_small_for(stores[root]) if root in stores else ())]:
            yield root, cautions


def _too_small_for(store: Storage) -> Iterator[str]:
    """Say which marks are beyond the size of the whole file system, if the root is there."""
    with suppress(OSError):
        has = total_bytes(str(store.root.absolute()))
        for name, mark, what in (
            ("min_free_bytes", store.min_free_bytes, "it always counts as full"),
            ("low_free_bytes", store.low_free_bytes, "something is always left out of new crashes"),
            ("keep_bytes", store.keep_bytes, "that is never reached"),
        ):
            if has is not None and mark >= has:
                yield f"{name} is {mark}, and its file system has {has} bytes in all: {what}"


def _left_over(settings: Settings, sinks: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Say of each store which ids in it wait for a publisher that the settings do not have."""
    if not settings.crashmover.enabled:
        return
    publishers = [name for kind, name in sinks if kind == _KINDS["published"]]
    for store in settings.storage:
        with suppress(OSError):  # which is said of the store itself
            counts = count_unpublished(str(store.root.absolute()))
            for publisher, count in without_publisher(counts, publishers).items():
                yield f"{store.root.absolute()}: {left_over_in_words(publisher, count)}"


def _rows(tables: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    return list(dict.fromkeys(str(table["name"]) for table in tables if "path" in table))


def _secret(value: str) -> str:
    return "(set)" if value else ""


def _show(
    config: Path | None,
    settings: Settings,
    rules: Sequence[Rule],
    sinks: Sequence[tuple[str, str]],
    tried: Sequence[TriedOut],
) -> None:
    submission, mover = settings.submission, settings.crashmover
    source = config or (DEFAULT_PATH if DEFAULT_PATH.is_file() else "built-in values")
    show(
        facts(
            [
                ("settings", f"{source}, and the environment"),
                ("submissions", ", ".join(submission.listen)),
                ("dialects", ", ".join([*submission.dialects, *_rows(submission.dialect)])),
                ("workers", processes_in_words(submission.workers, mover.processes or None)),
                ("largest report", size_in_words(submission.max_body_bytes)),
                ("submitter token", _secret(submission.submitter_token) or "none: clients can't choose crash ids"),
                ("admin port", ", ".join(settings.admin.listen) or "off"),
                ("admin token", _secret(settings.admin.token) or "none"),
                ("crashmover", _crashmover(settings)),
                ("after a move", "crashes stay in their store too" if mover.keep else "crashes leave their store"),
                ("sentry", _secret(settings.sentry.dsn) or "off"),
                ("statsd", settings.metrics.statsd or "off"),
                ("log", f"{settings.logging.format}, {settings.logging.level}"),
            ]
        )
    )
    stores = table("store", "full below", "", right=["full below"])
    for store in settings.storage:
        there = "is there" if store.root.is_dir() else "the daemon makes it at its start"
        add_row(stores, store.root.absolute(), size_in_words(store.min_free_bytes), there)
    show(stores)
    for root, cautions in _cautions(settings):
        for caution in cautions:
            show(f"{root}: {caution}")
    if tried:
        connected = table("kind", "name", "when it was tried")
        for each in tried:
            add_row(connected, each.kind, each.name, "failed" if each.problem else "is ready")
        show(connected)
    elif sinks:
        moved = table("kind", "name")
        for kind, name in sinks:
            add_row(moved, kind, name)
        show(moved)
    listed = table("rule", "condition", "outcome")
    for rule in rules:
        add_row(listed, rule.name, shortened(condition_in_words(rule.key, rule.condition), 160), outcome_in_words(rule))
    show(f"rules: {settings.throttle.rules}", listed)
    for difference in differences_in(rules):
        show(f"note: {difference}")
    if not any(each.problem for each in tried):
        show("The settings can be used.")


def _crashmover(settings: Settings) -> str:
    mover = settings.crashmover
    if not mover.enabled:
        return "off"
    if mover.destination:
        publishers = f", {counted(len(mover.publisher), 'publisher')}" if mover.publisher else ""
        return f"to {counted(len(mover.destination), 'destination')}{publishers}"
    return "crashes stay; those in a fallback store go to the primary" if len(settings.storage) > 1 else "crashes stay"
