"""
The settings and all that they name, read once more while the daemon runs.
"""

from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from collectord.config import DEFAULT_PATH, Settings, load_settings
from collectord.throttle.load import load_rules
from collectord.throttle.rules import Rule

_FIXED = ("storage", "admin", "ledger", "metrics", "sentry")
_FIXED_OF_SUBMISSION = ("listen", "workers", "stop_s")


@frozen
class Loaded:
    """
    Settings with their throttle rules.

    @ivar source: of the settings, in words.
    """

    settings: Settings
    rules: Sequence[Rule]
    source: str


def load(path: Path | None) -> Loaded:
    """
    Read them. It blocks.

    @raise ConfigError: naming what is wrong, and where.
    """
    settings = load_settings(path)
    file = path or (DEFAULT_PATH if DEFAULT_PATH.is_file() else None)
    source = str(file) if file is not None else "settings"
    return Loaded(settings, load_rules(settings.throttle.rules, settings.throttle.products), source)


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """What differs and can't be changed while the daemon runs."""
    sections = [f"[{name}]" for name in _FIXED if getattr(old, name) != getattr(new, name)]
    keys = [
        f"[submission] {key}"
        for key in _FIXED_OF_SUBMISSION
        if getattr(old.submission, key) != getattr(new.submission, key)
    ]
    return [*sections, *keys]
