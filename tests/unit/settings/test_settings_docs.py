"""
Each key of each section is in the documentation, and in the file that operators copy.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from collectord.settings.schema import Settings
from collectord.settings.snapshot import _FIXED, _FIXED_KEYS
from tests.support.cases import for_each

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs" / "settings.rst").read_text("utf-8") + (ROOT / "docs" / "crashmover.rst").read_text("utf-8")
PRODUCTION = (ROOT / "etc" / "production.toml").read_text("utf-8")


def models() -> Iterator[tuple[str, type[BaseModel]]]:
    """The name of each section, and its model."""
    for section, field in Settings.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield section, kind


def keys() -> Iterator[tuple[str, str]]:
    """The name of each section, and of each of its keys."""
    for section, kind in models():
        for key in kind.model_fields:
            yield section, key


def sections_of(toml: str) -> dict[str, str]:
    """What follows the header of each section, as text: a key that has its default there is a comment."""
    parts = re.split(r"^#?\[\[?([a-z_.]+)\]\]?.*$", toml, flags=re.MULTILINE)
    sections: dict[str, str] = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        sections[name] = sections.get(name, "") + text
    return sections


def test_there_are_keys() -> None:
    assert {("submission", "listen"), ("storage", "root"), ("ledger", "enabled")} <= set(keys())
    assert len(list(keys())) > 50


@for_each(("section", "key"), [pytest.param(*each, id=".".join(each)) for each in keys()])
def test_each_is_told(section: str, key: str) -> None:
    if f"{section}.{key}" in sections_of(PRODUCTION):  # a table of its own
        assert f"[[{section}.{key}]]" in DOCS
    else:
        assert f"``{key}``" in DOCS
        assert re.search(rf"^#?{key} =", sections_of(PRODUCTION)[section], re.MULTILINE)


def not_built_in(toml: str) -> list[str]:
    """
    The keys behind a single # of which the value is not the built-in one.

    Keys of a section that is a comment itself, and keys that have no built-in value, are examples.
    """
    found, kinds, section = [], dict(models()), ""
    for line in toml.splitlines():
        if header := re.match(r"(#?)\[\[?([a-z_.]+)\]\]?", line):
            section = "" if header[1] else header[2]
        elif section and re.match(r"#[a-z_]+ = ", line):
            [(key, value)] = tomllib.loads(line[1:]).items()
            kind = kinds[section]
            built_in = kind.model_fields[key].default
            needed = {"root": "/crashes"} if section == "storage" else {}
            if built_in is not None and getattr(kind(**needed, **{key: value}), key) != built_in:
                found.append(f"{section}.{key}")
    return found


def test_what_is_behind_a_single_hash_is_the_built_in_value() -> None:
    assert not_built_in(PRODUCTION) == []


def test_a_value_that_is_not_built_in_is_found() -> None:
    changed = PRODUCTION.replace("#max_parts = 2000 ", "#max_parts = 2001 ").replace(
        '#file_mode = "0600"', '#file_mode = "0640"'
    )
    assert not_built_in(changed) == ["submission.max_parts", "storage.file_mode"]


def test_the_daemon_of_make_run_is_described_by_a_file_alone() -> None:
    """So the command finds what the daemon remembers of its stores if it gets the same file."""
    [recipe] = re.findall(r"^run:.*\n\t(.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert "--config etc/development.toml" in recipe
    assert re.findall(r"(\w+)=\S", recipe) == ["PYTHONPATH"]


def test_what_takes_a_restart_is_told() -> None:
    told = (
        (ROOT / "docs" / "operations.rst").read_text("utf-8").partition("These take a restart")[2].partition("\n\n")[0]
    )
    sections, _, of_others = told.partition("and of ")
    assert set(re.findall(r"``\[+([a-z]+)\]+``", sections)) == set(_FIXED)
    keys = {
        name: tuple(re.findall(r"``([a-z_]+)``", text)) for name, text in re.findall(r"\[(\w+)\]([^\[]+)", of_others)
    }
    assert keys == _FIXED_KEYS
