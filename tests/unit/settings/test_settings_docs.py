"""
Each key of each section is in the documentation, and in the file that operators copy.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from collectord.settings.schema import Settings

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs" / "settings.rst").read_text("utf-8") + (ROOT / "docs" / "crashmover.rst").read_text("utf-8")
PRODUCTION = (ROOT / "etc" / "production.toml").read_text("utf-8")


def keys() -> Iterator[tuple[str, str]]:
    """The name of each section, and of each of its keys."""
    for section, field in Settings.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        for kind in kinds:
            if issubclass(kind, BaseModel):
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


@pytest.mark.parametrize(("section", "key"), [pytest.param(*each, id=".".join(each)) for each in keys()])
def test_each_is_told(section: str, key: str) -> None:
    if f"{section}.{key}" in sections_of(PRODUCTION):  # a table of its own
        assert f"[[{section}.{key}]]" in DOCS
    else:
        assert f"``{key}``" in DOCS
        assert re.search(rf"^#?{key} =", sections_of(PRODUCTION)[section], re.MULTILINE)
