"""
Kinds of destinations and publishers, ours and others': found by their entry points, each with settings of its own.

An entry point of the group L{DESTINATIONS} or L{PUBLISHERS} names a L{Kind}; its own name is the C{type} in the
settings.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from attrs import frozen
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from collectord.errors import ConfigError

DESTINATIONS = "collectord.destinations"
PUBLISHERS = "collectord.publishers"


class KindSettings(BaseModel):
    """
    What every kind has; a kind adds its own.

    @ivar timeout_s: seconds for one crash, or for one id.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: str
    timeout_s: float = Field(default=60.0, gt=0)
    verify: bool = True


S = TypeVar("S", bound=KindSettings)


@frozen
class Daemon:
    """
    What a plugin gets of the daemon.

    @ivar reactor: for connections and clocks; on its thread everything is called.
    """

    reactor: Any


@frozen
class Kind(Generic[S]):
    """
    A kind of destination or publisher.

    @ivar make: an L{ICrashStorage}, or an L{ICrashPublisher}. It connects to nothing yet.
    """

    settings: type[S]
    make: Callable[[S, Daemon], Any]


@frozen
class Plugin:
    """One that was made."""

    settings: KindSettings
    made: Any


def make_plugin(group: str, table: Mapping[str, Any], daemon: Daemon, where: str) -> Plugin:
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
        kind: Kind[Any] = point.load()
    except ModuleNotFoundError as e:
        extra = f"pip install 'collectord[{point.extras[0]}]'" if point.extras else f"pip install {e.name}"
        raise ConfigError(f"{where} type = {name!r}: the module {e.name} is missing: {extra}") from e
    try:
        settings = kind.settings.model_validate(table)
    except ValidationError as e:
        raise ConfigError("\n".join(_told(error, where, kind.settings) for error in e.errors())) from e
    return Plugin(settings, kind.make(settings, daemon))


def _told(error: Any, where: str, settings: type[KindSettings]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{where} {key}: unknown key; known here: {', '.join(settings.model_fields)}"
    return f"{where} {key}".rstrip() + f": {error['msg'].removeprefix('Value error, ')}"
