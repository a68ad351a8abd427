"""
The sections of the settings, the keys of each section with their defaults, and the checks of their values.

C{docs/settings.rst} says what each key means.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from collectord.settings.paths import PlainPath
from collectord.settings.stores import CONFIG, Storage, apart

PREFIX = "COLLECTORD_"


class _Section(BaseModel):
    model_config = CONFIG


def _is_proxy(value: str) -> str:
    if value != "unix":
        try:
            ip_network(value)
        except ValueError as e:
            raise ValueError(f'{value!r}: has to be an address, a network like "10.0.0.0/8", or "unix"') from e
    return value


def _listed(value: object) -> object:
    """Turn tables that the environment has numbered from 0 into a list."""
    if isinstance(value, dict) and value and all(str(key).isdigit() for key in value):
        return [value[key] for key in sorted(value, key=int)]
    return value


_VIEW_URL = r"^(https?://[!#-\[\]-z|~]*\{crash_id\}[!#-\[\]-z|~]*)?$"
"""An address with a place for the crash id, without what would end a text in JSON, and without other braces."""


class Submission(_Section):
    """C{[submission]}: how crash reports are received."""

    listen: list[str] = Field(default=["tcp:8000:interface=127.0.0.1"], min_length=1)
    workers: int = Field(default=1, ge=1, le=64)
    max_body_bytes: int = Field(default=26214400, gt=0)
    max_read_bytes: int = Field(default=268435456, gt=0)
    max_parts: int = Field(default=2000, gt=0)
    max_annotation_bytes: int = Field(default=2097152, gt=0)
    max_extra_items: int = Field(default=10000, gt=0)
    max_extra_levels: int = Field(default=100, gt=0, le=500)
    memory_bytes: int = Field(default=67108864, ge=0)
    patience_s: float = Field(default=40.0, ge=0)
    idle_timeout_s: float = Field(default=30.0, gt=0)
    keep_alive_s: float = Field(default=130.0, gt=0)
    min_rate_bytes_s: int = Field(default=50, ge=0)
    max_connections: int = Field(default=20000, gt=0)
    drain_s: float = Field(default=0.0, ge=0)
    drain_file: PlainPath | None = None
    stop_s: float = Field(default=30.0, ge=0)
    duplicate_window_s: float = Field(default=3600.0, ge=0, le=86400)
    fingerprint: bool = True
    worker_timeout_s: float = Field(default=30.0, ge=2)
    dump_id_prefix: str = Field(default="bp-", pattern=r"^[A-Za-z0-9._-]*$")
    view_url: str = Field(default="", max_length=1000, pattern=_VIEW_URL)
    submitter_token: str = Field(default="", repr=False)
    annotation_aliases: dict[str, str] = {
        "_productName": "ProductName",
        "_version": "Version",
        "prod": "ProductName",
        "ver": "Version",
        "product": "ProductName",
        "version": "Version",
    }
    trusted_proxies: list[Annotated[str, AfterValidator(_is_proxy)]] = ["127.0.0.0/8", "::1", "unix"]
    forwarded_header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"
    record_address: bool = False
    keep_annotations: list[str] = []
    remove_annotations: list[str] = ["Email", "TelemetryClientId", "TelemetryServerURL", "TelemetrySessionId"]
    dialects: list[str] = ["submit"]
    dialect: Annotated[list[dict[str, Any]], BeforeValidator(_listed)] = Field(default=[], repr=False)

    @model_validator(mode="after")
    def _all_that_is_kept_can_be_read(self) -> Self:
        if self.max_read_bytes < self.max_body_bytes:
            raise ValueError("max_read_bytes: less than max_body_bytes, so that no report could have so many")
        return self


class Throttle(_Section):
    """C{[throttle]}: which reports are kept."""

    rules: str = "accept_all"
    products: list[str] = []


class Logging(_Section):
    """C{[logging]}: which log lines are written, and in which format."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warn", "error"] = "info"


class Crashmover(_Section):
    """
    C{[crashmover]}: how crashes are moved to where they are processed.

    The tables of destinations and publishers are checked by their plugins, which know their keys.
    """

    enabled: bool = True
    processes: int = Field(default=0, ge=0, le=16)
    interval_s: float = Field(default=5.0, gt=0)
    concurrency: int = Field(default=8, gt=0, le=1000)
    keep: bool = False
    stop_s: float = Field(default=30.0, ge=0)
    destination: Annotated[list[dict[str, Any]], BeforeValidator(_listed)] = Field(default=[], repr=False)
    publisher: Annotated[list[dict[str, Any]], BeforeValidator(_listed)] = Field(default=[], repr=False)

    def moves_from(self, *, primary: bool) -> bool:
        """
        Tell whether crashes of the primary, or of another store, are to be moved from there: now, or once C{enabled} is
        true again.
        """
        return bool(self.destination) or (self.enabled and not primary)

    def filesystem_roots(self) -> list[Path]:
        """Return the absolute roots of all destinations of C{type = "filesystem"}, also of those in a fallback."""
        return [root for root, _ in self.filesystems()]

    def filesystems(self) -> list[tuple[Path, str]]:
        """Return the absolute root and C{sync} of all destinations of C{type = "filesystem"}, also in a fallback."""
        return [(Path(table["root"]).absolute(), str(table.get("sync", "files"))) for table in self.filesystem_tables()]

    def roots_as_written(self) -> list[Path]:
        """Return the same roots as L{filesystem_roots}, but relative ones as they are written."""
        return [Path(table["root"]) for table in self.filesystem_tables()]

    def filesystem_tables(self) -> list[dict[str, Any]]:
        """Return the tables of all destinations of C{type = "filesystem"}, also of those in a fallback."""
        return list(_filesystem_tables(self.destination))

    @model_validator(mode="after")
    def _published_where_it_is(self) -> Self:
        if self.publisher and not self.destination:
            raise ValueError("a publisher needs a destination, since its queue says which crashes are there")
        return self


def _filesystem_tables(tables: Iterable[object]) -> Iterator[dict[str, Any]]:
    for table in tables:
        if isinstance(table, dict):
            if table.get("type") == "filesystem" and isinstance(table.get("root"), str) and table["root"]:
                yield table
            of = table.get("of")
            yield from _filesystem_tables(of if isinstance(of, list) else [])


class Admin(_Section):
    """C{[admin]}: the port of the admin page and the metrics, which must not be public."""

    listen: list[str] = ["tcp:8001:interface=127.0.0.1"]
    token: str = Field(default="", repr=False)
    allow_open: bool = False
    hosts: list[str] = []
    downloads: bool = True


class Ledger(_Section):
    """C{[ledger]}: the journal of what happened to each crash."""

    enabled: bool = True
    directory: PlainPath | None = None
    keep_days: int = Field(default=90, ge=1)


class IndexSection(_Section):
    """C{[index]}: the index of crashes, which the admin page and C{collectord top} ask."""

    enabled: bool = True
    keep_days: int = Field(default=30, ge=1, le=3650)
    max_bytes: int = Field(default=134217728, ge=1048576)
    annotations: list[str] = []


class StateDirectory(_Section):
    """C{[state]}: where the daemon remembers things outside of its stores."""

    directory: PlainPath | None = None


def _is_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value and not (host and not re.search(r"\s", host) and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError("must be host:port, as in 127.0.0.1:8125")
    return value


class Metrics(_Section):
    """C{[metrics]}: a statsd server that gets the metrics as well."""

    statsd: Annotated[str, AfterValidator(_is_address)] = ""
    statsd_interval_s: float = Field(default=10.0, gt=0)
    statsd_tags: bool = False


class Sentry(_Section):
    """C{[sentry]}: where unhandled errors are reported."""

    dsn: str = Field(default="", repr=False)
    environment: str = ""


SECTIONS: dict[str, type[BaseModel]] = {
    "submission": Submission,
    "throttle": Throttle,
    "storage": Storage,
    "crashmover": Crashmover,
    "admin": Admin,
    "ledger": Ledger,
    "index": IndexSection,
    "state": StateDirectory,
    "metrics": Metrics,
    "sentry": Sentry,
    "logging": Logging,
}


class Settings(BaseSettings):
    """All settings of a daemon."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    submission: Submission = Submission()
    throttle: Throttle = Throttle()
    storage: Annotated[list[Storage], BeforeValidator(_listed), AfterValidator(apart)] = Field(
        default=[Storage(root=Path("crashes"))], min_length=1
    )
    crashmover: Crashmover = Crashmover()
    admin: Admin = Admin()
    ledger: Ledger = Ledger()
    index: IndexSection = IndexSection()
    state: StateDirectory = StateDirectory()
    metrics: Metrics = Metrics()
    sentry: Sentry = Sentry()
    logging: Logging = Logging()
