"""
A snapshot of the settings and the throttle rules, as they were read at one time.

It is read at the start and again at each reload, compared with the one before, and sent to the worker processes.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen
from pydantic import BaseModel
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from collectord.dialects.load import load_dialects
from collectord.errors import ConfigError
from collectord.settings.loading import DEFAULT_PATH, load_settings
from collectord.settings.sanity import odd_for_clients, refuse_odd_places, refuse_same_addresses, warnings_about
from collectord.settings.schema import Settings
from collectord.throttle.load import load_rules, read_rules
from collectord.throttle.rules import Rule

_FIXED = ("storage", "admin", "ledger", "state", "metrics", "sentry")
"""The sections that can't change while the daemon runs."""
_NOT_ON_WIRE = {"admin", "ledger", "metrics"}
"""The sections that workers have no use for. There may be passwords in them, so they are not sent."""
_FIXED_KEYS = {"submission": ("listen", "workers", "stop_s"), "crashmover": ("processes",)}
"""The keys of other sections that can't change either, by section."""


class WireSettings(Settings):
    """Settings that were received from another process, and are completed by no file and no environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


@frozen(kw_only=True)
class SettingsSnapshot:
    """
    A settings snapshot holds settings and the throttle rules that they name.

    @ivar rules_text: the content of the rule file; None if the rules do not come from a file.
    @ivar source: the path of the settings file, or another name of where the settings come from.
    @ivar warnings: what the operator should change, in sentences, though the settings can be used as they are.
    """

    settings: Settings
    rules: Sequence[Rule]
    rules_text: str | None
    source: str
    warnings: Sequence[str] = ()

    def to_wire(self) -> bytes:
        """
        Make the line that is sent to a worker process, so that it has the same settings as its parent.

        A worker does not read the files itself, because they may have changed. Sections that it has no use for are left
        out, since there may be passwords in them.
        """
        settings = self.settings.model_dump(mode="json", exclude=_NOT_ON_WIRE)
        return json.dumps({"settings": settings, "rules_text": self.rules_text}).encode()

    def keeping_restart_only(self, old: "SettingsSnapshot") -> "SettingsSnapshot":
        """Return this snapshot, but with the values of C{old} for all that can't change while the daemon runs."""
        fixed: dict[str, BaseModel] = {name: getattr(old.settings, name) for name in _FIXED}
        for name, keys in _FIXED_KEYS.items():
            of_old = getattr(old.settings, name)
            update = {key: getattr(of_old, key) for key in keys}
            fixed[name] = getattr(self.settings, name).model_copy(update=update)
        return evolve(self, settings=self.settings.model_copy(update=fixed))


def load(path: Path | None, *, service: bool = False) -> SettingsSnapshot:
    """
    Read the settings and the throttle rules that they name. This blocks.

    @param path: the settings file; None: the default one, if it exists.
    @param service: whether the daemon runs as a service, which may be started in any directory.

    @raise ConfigError: the text says what is wrong, and where.
    """
    settings = load_settings(path)
    file = path or (DEFAULT_PATH if DEFAULT_PATH.is_file() else None)
    source = str(file) if file is not None else "settings"
    try:
        refuse_odd_places(settings, service=service)
        refuse_same_addresses(settings)
        load_dialects(settings.submission.dialects, settings.submission.dialect)
    except ConfigError as e:
        raise e.about(source) from e
    spec = settings.throttle.rules
    text = read_rules(spec) if spec.endswith(".toml") else None
    return SettingsSnapshot(
        settings=settings,
        rules=load_rules(spec, settings.throttle.products, text),
        rules_text=text,
        source=source,
        warnings=[*(warnings_about(file) if file is not None else ()), *odd_for_clients(settings)],
    )


def from_wire(line: bytes) -> SettingsSnapshot:
    """
    Read the line that L{SettingsSnapshot.to_wire} has made in the parent process.

    @raise ConfigError: the rules are written in Python, and their module can't be used any more.
    """
    wire = json.loads(line)
    settings = WireSettings(**wire["settings"])
    text = wire["rules_text"]
    rules = load_rules(settings.throttle.rules, settings.throttle.products, text)
    return SettingsSnapshot(settings=settings, rules=rules, rules_text=text, source="parent")


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """List the sections and keys that differ and can't change while the daemon runs."""
    sections = [f"[{name}]" for name in _FIXED if getattr(old, name) != getattr(new, name)]
    keys = [
        f"[{name}] {key}"
        for name, fixed in _FIXED_KEYS.items()
        for key in fixed
        if getattr(getattr(old, name), key) != getattr(getattr(new, name), key)
    ]
    return [*sections, *keys]
