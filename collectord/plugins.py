"""
Finds and makes plugins: every destination and publisher of the crashmover is one, those of collectord itself as well.

A plugin is found by its entry point in the group L{DESTINATIONS} or L{PUBLISHERS}. The entry point names a
L{PluginType}, and its own name is the C{type} in the settings.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from attrs import frozen
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from zope.interface.verify import verifyObject

from collectord.errors import ConfigError
from collectord.interfaces import ICrashPublisher, ICrashStorage
from collectord.nearest import known_in_words
from collectord.settings.urls import without_secrets

DESTINATIONS = "collectord.destinations"
PUBLISHERS = "collectord.publishers"
_INTERFACES = {DESTINATIONS: ICrashStorage, PUBLISHERS: ICrashPublisher}


class PluginSettings(BaseModel):
    """
    The settings that every plugin has. A type of plugin has a subclass with keys of its own.

    @ivar type: the name of the entry point.
    @ivar timeout_s: seconds that saving one crash, or publishing one id, may take.
    @ivar verify: whether the plugin is checked before it gets its first crash.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: str
    timeout_s: float = Field(default=60.0, gt=0)
    verify: bool = True


S = TypeVar("S", bound=PluginSettings)


@frozen
class PluginContext:
    """
    The plugin context is what a plugin gets of the daemon that makes it.

    @ivar reactor: for connections and clocks. All methods of the plugin are called on its thread.
    @ivar stores: the names of the stores that crashes are moved out of, by their staging ids, which are unique.
    @ivar state_directory: a directory for what has to be remembered after a restart; empty: there is none.
    """

    reactor: Any
    stores: Mapping[str, str] = {}
    state_directory: str = ""


@frozen
class PluginType(Generic[S]):
    """
    A plugin type is a kind of destination or publisher; an entry point names it.

    @ivar settings: the class of its settings.
    @ivar make: makes an L{ICrashStorage} or an L{ICrashPublisher}, which connects to nothing yet. This may read files:
        at a reload it is called on a thread other than the reactor's.
    """

    settings: type[S]
    make: Callable[[S, PluginContext], Any]


@frozen
class Plugin:
    """
    A plugin that was made, with its settings.

    @ivar instance: an L{ICrashStorage} or an L{ICrashPublisher}.
    """

    settings: PluginSettings
    instance: Any


@cache
def points_of(group: str) -> Mapping[str, EntryPoint]:
    """
    Find the entry points of a group, by name.

    That reads the metadata of every installed package. It is done once: what is installed while a process runs can't be
    relied upon in it.
    """
    return {point.name: point for point in entry_points(group=group)}


def make_plugin(group: str, table: Mapping[str, Any], context: PluginContext, where: str) -> Plugin:
    """
    Make the plugin that a table of the settings describes. This may block.

    @param group: L{DESTINATIONS} or L{PUBLISHERS}.
    @param where: the name of the table, for error messages.

    @raise ConfigError: the plugin can't be made; the text says why.
    """
    name = table.get("type")
    found = points_of(group)
    if not isinstance(name, str) or name not in found:
        what = "is missing" if name is None else f"= {name!r}: there is none"
        raise ConfigError(f"{where} type {what}; {known_in_words(str(name or ''), sorted(found))}")
    point = found[name]
    try:
        plugin_type: PluginType[Any] = point.load()
    except ModuleNotFoundError as e:
        if point.extras:
            extra = f"pip install 'collectord[{point.extras[0]}]'"
            raise ConfigError(f"{where} type = {name!r}: the module {e.name} is missing: {extra}") from e
        raise ConfigError(_broken(where, point, e)) from e
    except Exception as e:  # a module of another author may raise anything
        raise ConfigError(_broken(where, point, e)) from e
    if not isinstance(plugin_type, PluginType):
        raise ConfigError(f"{where} type = {name!r}: {point.value} is no collectord.plugins.PluginType")
    try:
        settings = plugin_type.settings.model_validate(table)
    except ValidationError as e:
        raise ConfigError("\n".join(_describe_error(error, where, plugin_type.settings) for error in e.errors())) from e
    try:
        instance = plugin_type.make(settings, context)
        verifyObject(_INTERFACES[group], instance)
    except ConfigError as e:
        raise e.about(where) from e
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
        return f"{where} {key}: unknown key; {known_in_words(str(error['loc'][-1]), settings.model_fields)}"
    what = "is missing" if error["type"] == "missing" else error["msg"].removeprefix("Value error, ")
    return f"{where} {key}".rstrip() + f": {without_secrets(what)}"
