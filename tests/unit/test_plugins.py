"""
Kinds of other people: whatever is wrong with one stops the start with a line, and no traceback.
"""

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from collectord.errors import ConfigError
from collectord.plugins import DESTINATIONS, PluginContext, PluginSettings, PluginType, make_plugin
from collectord.testing.memory import MemoryCrashStorage
from tests.support.cases import for_each


class Settings(PluginSettings):
    depth: int = 1


def make_well(settings: Settings, context: PluginContext) -> MemoryCrashStorage:
    return MemoryCrashStorage(f"depth {settings.depth}")


def make_raising(settings: Settings, context: PluginContext) -> object:
    raise KeyError("depth")


def make_refused(settings: Settings, context: PluginContext) -> object:
    raise ConfigError("ca_file: not there\nkey_file: not there")


def make_nothing(settings: Settings, context: PluginContext) -> object:
    return object()


WELL = PluginType(Settings, make_well)
RAISING = PluginType(Settings, make_raising)
REFUSED = PluginType(Settings, make_refused)
NOTHING = PluginType(Settings, make_nothing)
NO_KIND = "text"


@pytest.fixture(autouse=True)
def _points(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["WELL", "RAISING", "REFUSED", "NOTHING", "NO_KIND", "ABSENT"]
    points = [EntryPoint(name.lower(), f"{__name__}:{name}", DESTINATIONS) for name in names]
    points.append(EntryPoint("no_module", "collectord_no_such:X", DESTINATIONS))
    points.append(EntryPoint("no_extra", "collectord_no_such:X [s3]", DESTINATIONS))
    monkeypatch.setattr("collectord.plugins.points_of", lambda group: {point.name: point for point in points})


def made(table: Mapping[str, Any]) -> Any:
    return make_plugin(DESTINATIONS, table, PluginContext(None), "here").instance


def test_made() -> None:
    assert made({"type": "well", "depth": 3}).name == "depth 3"


def test_what_a_plugin_itself_refuses_is_told_with_the_table() -> None:
    with pytest.raises(ConfigError) as raised:
        made({"type": "refused"})
    assert str(raised.value) == "here: ca_file: not there\nhere: key_file: not there"


@for_each(
    ("table", "reported"),
    [
        ({}, "here type is missing; known here: absent, "),
        ({"type": "pigeon"}, "here type = 'pigeon': there is none; known here: absent, "),
        (
            {"type": "well", "deep": 3},
            "here deep: unknown key; did you mean depth? known here: type, ",
        ),
        ({"type": "well", "depth": "secret"}, "here depth: Input should be a valid integer"),
        ({"type": "raising"}, f"here type = 'raising' ({__name__}:RAISING): KeyError: 'depth'"),
        ({"type": "nothing"}, f"here type = 'nothing' ({__name__}:NOTHING): "),
        ({"type": "no_kind"}, f"here type = 'no_kind': {__name__}:NO_KIND is no collectord.plugins.PluginType"),
        ({"type": "absent"}, f"here type = 'absent' ({__name__}:ABSENT): AttributeError: "),
        ({"type": "no_module"}, "here type = 'no_module' (collectord_no_such:X): ModuleNotFoundError: No module named"),
        ({"type": "no_extra"}, "here type = 'no_extra': the module collectord_no_such is missing: pip install 'coll"),
    ],
)
def test_what_is_wrong(table: Mapping[str, Any], reported: str) -> None:
    with pytest.raises(ConfigError) as raised:
        made(table)
    assert str(raised.value).startswith(reported)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
