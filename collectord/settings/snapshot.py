"""
The settings and all that they name, read once more while the daemon runs.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from collectord.errors import ConfigError
from collectord.settings.loading import DEFAULT_PATH, load_settings
from collectord.settings.sanity import refuse_odd_places, warnings_about
from collectord.settings.schema import Settings
from collectord.throttle.load import load_rules, read_rules
from collectord.throttle.rules import Rule

_FIXED = ("storage", "admin", "ledger", "state", "metrics", "sentry")
_NOT_ON_WIRE = {"crashmover", "admin", "ledger", "metrics"}
_FIXED_OF_SUBMISSION = ("listen", "workers", "stop_s")


class WireSettings(Settings):
    """Those of another process, as L{Settings.model_dump_json} has them, and of no file and no environment."""

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
    Settings with their throttle rules.

    @ivar rules_text: of the rules, where they are a file.
    @ivar source: of the settings, in words.
    @ivar warnings: what is odd about them, and does not stop the start.
    """

    settings: Settings
    rules: Sequence[Rule]
    rules_text: str | None
    source: str
    warnings: Sequence[str] = ()

    def to_wire(self) -> bytes:
        """
        One line for a process that takes submissions, which is to live by the very same, whatever has become of the
        files. What it has no use for stays here: there are passwords in it.
        """
        settings = self.settings.model_dump(mode="json", exclude=_NOT_ON_WIRE)
        return json.dumps({"settings": settings, "rules_text": self.rules_text}).encode()

    def keeping_restart_only(self, old: "SettingsSnapshot") -> "SettingsSnapshot":
        """This, but for what can't be changed while the daemon runs."""
        submission = self.settings.submission.model_copy(
            update={key: getattr(old.settings.submission, key) for key in _FIXED_OF_SUBMISSION}
        )
        fixed = {name: getattr(old.settings, name) for name in _FIXED}
        return evolve(self, settings=self.settings.model_copy(update={"submission": submission, **fixed}))


def load(path: Path | None, *, service: bool = False) -> SettingsSnapshot:
    """
    Read them. It blocks.

    @param service: nobody knows in which directory the daemon is started.
    @raise ConfigError: naming what is wrong, and where.
    """
    settings = load_settings(path)
    file = path or (DEFAULT_PATH if DEFAULT_PATH.is_file() else None)
    source = str(file) if file is not None else "settings"
    try:
        refuse_odd_places(settings, service=service)
    except ConfigError as e:
        raise ConfigError("\n".join(f"{source}: {line}" for line in str(e).splitlines())) from e
    spec = settings.throttle.rules
    text = read_rules(spec) if spec.endswith(".toml") else None
    return SettingsSnapshot(
        settings=settings,
        rules=load_rules(spec, settings.throttle.products, text),
        rules_text=text,
        source=source,
        warnings=warnings_about(file) if file is not None else (),
    )


def from_wire(line: bytes) -> SettingsSnapshot:
    """
    What L{SettingsSnapshot.to_wire} hands over.

    @raise ConfigError: there are rules in Python, and they can't be used by now.
    """
    wire = json.loads(line)
    settings = WireSettings(**wire["settings"])
    text = wire["rules_text"]
    rules = load_rules(settings.throttle.rules, settings.throttle.products, text)
    return SettingsSnapshot(settings=settings, rules=rules, rules_text=text, source="parent")


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """What differs and can't be changed while the daemon runs."""
    sections = [f"[{name}]" for name in _FIXED if getattr(old, name) != getattr(new, name)]
    keys = [
        f"[submission] {key}"
        for key in _FIXED_OF_SUBMISSION
        if getattr(old.submission, key) != getattr(new.submission, key)
    ]
    return [*sections, *keys]
