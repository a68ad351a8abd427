"""
Reads the settings from a TOML file, the environment and credentials of systemd, and describes what is wrong with them.

Every key can be set as C{COLLECTORD_<SECTION>__<KEY>}, in the environment or as a credential of systemd (a file of that
name in C{CREDENTIALS_DIRECTORY}). A value that is no text is written as JSON. Stores are numbered from 0, as in
C{COLLECTORD_STORAGE__0__ROOT}, and replace those of the file.
"""

import json
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from collectord.errors import ConfigError
from collectord.nearest import known_in_words
from collectord.settings.schema import PREFIX, SECTIONS, Settings
from collectord.settings.urls import without_secrets

DEFAULT_PATH = Path("/etc/collectord/collectord.toml")
"""The settings file that is read if it exists and no other is named."""
_OF_KUBERNETES = re.compile(rf"{PREFIX}(SERVICE_.+|PORT(_[0-9]+_.+)?)")
"""Variables that Kubernetes sets in containers about a service that is called collectord. They are no settings."""
SECRETS = frozenset({"submitter_token", "token", "dsn"})
"""Keys whose values are secret."""
_TABLES = frozenset({"destination", "publisher", "dialect"})
"""Keys whose tables may contain secrets."""
_WITH_SECRETS = frozenset({"submission", "crashmover", "admin", "sentry"})
"""The sections that may contain secrets."""
_ARRAYS = frozenset({"storage", "crashmover.destination", "crashmover.publisher", "submission.dialect"})
"""What is written as tables in double brackets."""


class _FromFile(Settings):
    """The settings as the environment, credentials and a file give them. It is made with C{toml_file} alone."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(init_settings, InitSettingsSource)
        sources: list[PydanticBaseSettingsSource] = []  # those that say something, since each looks for every key
        if any(variable.upper().startswith(PREFIX) for variable in os.environ):
            sources.append(env_settings)
        if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
            credentials = NestedSecretsSettingsSource(
                file_secret_settings,
                secrets_dir=directory,
                secrets_dir_missing="ok",
                secrets_prefix=PREFIX,
                secrets_nested_delimiter="__",
            )
            sources.append(credentials)
        sources.append(TomlConfigSettingsSource(settings_cls, toml_file=init_settings.init_kwargs["toml_file"]))
        return tuple(sources)


def load_settings(path: Path | None) -> Settings:
    """
    Read the settings from the file at C{path} and from the environment, which takes precedence. This blocks.

    @param path: None: the file L{DEFAULT_PATH} if it exists, else the defaults of all keys.

    @raise ConfigError: the text names the file or the variable, the key, the value, and what would be right.
    """
    if path is None and DEFAULT_PATH.is_file():
        path = DEFAULT_PATH
    _check_environment()
    from_file: Any = _FromFile
    try:
        if path is not None:
            path.open("rb").close()
        return cast(Settings, from_file(toml_file=path))
    except ValidationError as e:
        raise ConfigError("\n".join(_describe_error(error, path) for error in e.errors())) from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: not TOML: {e}") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 text: {e}") from e
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}") from e
    except ValueError as e:
        raise ConfigError(_not_json(e)) from e


def _not_json(error: ValueError) -> str:
    cause = error.__cause__
    if not isinstance(cause, json.JSONDecodeError):
        return f"environment: {error}"
    variables = [name for name, value in os.environ.items() if name.startswith(PREFIX) and value == cause.doc]
    where = f"environment, {' or '.join(variables)}" if variables else "a credential"  # its value may be secret
    return f'{where}: not JSON: {cause}; a list looks like ["a", "b"], a table like {{"a": "b"}}'


def _check_environment() -> None:
    for variable in os.environ:
        if variable.startswith(PREFIX) and not _OF_KUBERNETES.fullmatch(variable):
            section = variable.removeprefix(PREFIX).partition("__")[0].lower()
            if section not in Settings.model_fields:
                known = known_in_words(section, Settings.model_fields)
                raise ConfigError(f"{variable}: no such section, as in {PREFIX}SUBMISSION__WORKERS; {known}")


def _describe_error(error: Any, path: Path | None) -> str:
    keys = [str(key) for key in error["loc"]]
    variable = PREFIX + "__".join(keys).upper()
    # Stores come either from the file or from the environment, so one variable of any store says which it is.
    below = f"{PREFIX}STORAGE__" if keys[:1] == ["storage"] else f"{variable}__"
    set_in_environment = any(
        name == variable or variable.startswith(f"{name}__") or name.startswith(below)
        for name in map(str.upper, os.environ)
    )
    source = f"environment, {variable}" if set_in_environment else str(path or "settings")
    where = _where(keys)
    if error["type"] == "extra_forbidden":
        return f"{source}: {where}: unknown key; {known_in_words(keys[-1], _known(keys[:-1]))}"
    if error["type"] == "missing":
        return f"{source}: {where}: is missing"
    what = _list_wanted(keys) if error["type"] == "list_type" else error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and len(keys) < 2:  # what does not fit together is named in the text
        return f"{source}: {where}: {what}"
    value = "…" if _may_be_secret(keys, error["input"]) else without_secrets(repr(error["input"]))
    return f"{source}: {where} = {value}: {what}"


def _where(keys: Sequence[str]) -> str:
    if not keys:
        return "settings"
    if keys[0] == "storage" and len(keys) > 1:
        return f"[[storage]] {keys[1]} {'.'.join(keys[2:])}".rstrip()
    return f"[{keys[0]}] {'.'.join(keys[1:])}".rstrip()


def _list_wanted(keys: Sequence[str]) -> str:
    name = ".".join(keys)
    if name in _ARRAYS:
        variable = f"{PREFIX}{name.replace('.', '__').upper()}__0__…"
        return f"has to be a list of tables: write [[{name}]] in a file, {variable} in the environment"
    return 'has to be a list, as in ["a", "b"]'


def _may_be_secret(keys: Sequence[str], value: object) -> bool:
    """Tell whether the value of a key is secret, or is a table or a section that may contain a secret."""
    if keys and keys[0] not in _WITH_SECRETS:
        return False
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict | list) for each in value)):
        return True
    return len(keys) < 2 or not (SECRETS | _TABLES).isdisjoint(keys)


def _known(keys: Sequence[str]) -> list[str]:
    if not keys:
        return list(Settings.model_fields)
    return list(SECTIONS[keys[0]].model_fields) if keys[0] in SECTIONS else []
