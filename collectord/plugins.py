"""
Kinds of destinations and publishers, ours and others': found by their entry points, each with settings of its own.

An entry point of the group L{DESTINATIONS} or L{PUBLISHERS} names a L{PluginType}; its own name is the C{type} in the
settings.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from attrs import frozen
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from zope.interface.verify import verifyObject

from collectord.errors import ConfigError
from collectord.interfaces import ICrashPublisher, ICrashStorage
from collectord.settings.urls import without_secrets

DESTINATIONS = "collectord.destinations"
PUBLISHERS = "collectord.publishers"
_INTERFACES = {DESTINATIONS: ICrashStorage, PUBLISHERS: ICrashPublisher}


class PluginSettings(BaseModel):
    """
    What every kind has; a kind adds its own.

    @ivar timeout_s: seconds for one crash, or for one id.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: str
    timeout_s: float = Field(default=60.0, gt=0)
    verify: bool = True


S = TypeVar("S", bound=PluginSettings)


@frozen
class PluginContext:
    """
    What a plugin gets of the daemon.

    @ivar reactor: for connections and clocks; on its thread what it makes is called.
    @ivar stores: what crashes are moved out of: names, by staging ids that nobody else has.
    @ivar state_directory: where it remembers what must outlive it; empty: nowhere.
    """

    reactor: Any
    stores: Mapping[str, str] = {}
    state_directory: str = ""


@frozen
class PluginType(Generic[S]):
    """
    A kind of destination or publisher.

    @ivar make: an L{ICrashStorage}, or an L{ICrashPublisher}. It connects to nothing yet. It may read files: at a
        reload it is called on another thread than the reactor's.
    """

    settings: type[S]
    make: Callable[[S, PluginContext], Any]


@frozen
class Plugin:
    """One that was made."""

    settings: PluginSettings
    instance: Any


def make_plugin(group: str, table: Mapping[str, Any], daemon: PluginContext, where: str) -> Plugin:
    """
    What the settings in C{table} describe.

    @param where: the table in words, for errors.

    @raise ConfigError: it can't be made; the text says why.
    """
    name = table.get("type")
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        what = "is missing" if name is None else f"= {name!r}: there is none"
        raise ConfigError(f"{where} type {what}; known here: {', '.join(sorted(found))}")
    point = found[name]
    try:
        plugin_type: PluginType[Any] = point.load()
    except ModuleNotFoundError as e:
        if point.extras:
            extra = f"pip install 'collectord[{point.extras[0]}]'"
            raise ConfigError(f"{where} type = {name!r}: the module {e.name} is missing: {extra}") from e
        raise ConfigError(_broken(where, point, e)) from e
    except Exception as e:  # anything can go wrong in others' modules
        raise ConfigError(_broken(where, point, e)) from e
    if not isinstance(plugin_type, PluginType):
        raise ConfigError(f"{where} type = {name!r}: {point.value} is no collectord.plugins.PluginType")
    try:
        settings = plugin_type.settings.model_validate(table)
    except ValidationError as e:
        raise ConfigError("\n".join(_describe_error(error, where, plugin_type.settings) for error in e.errors())) from e
    try:
        instance = plugin_type.make(settings, daemon)
        verifyObject(_INTERFACES[group], instance)
    except ConfigError:
        raise
    except Exception as e:
        raise ConfigError(_broken(where, point, e)) from e
    return Plugin(settings, instance)


def _broken(where: str, point: EntryPoint, error: Exception) -> str:
    whose = f" from {point.dist.name} {point.dist.version}" if point.dist is not None else ""
    text = without_secrets(" ".join(str(error).split()))
    return f"{where} type = {point.name!r} ({point.value}{whose}): {type(error).__name__}: {text}"


def _describe_error(error: Any, where: str, settings: type[PluginSettings]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{where} {key}: unknown key; known here: {', '.join(settings.model_fields)}"
    what = "is missing" if error["type"] == "missing" else error["msg"].removeprefix("Value error, ")
    return f"{where} {key}".rstrip() + f": {without_secrets(what)}"
