"""
The settings of a store, and what they have in common with those of a destination that is a file system.

C{docs/settings.rst} says what each key means.
"""

import os
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from collectord.settings.paths import PlainPath

_LEAST_KEPT = 1024 * 1024
CONFIG = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
"""What all sections have in common: they can't be changed, have no other keys, and don't show what may be a secret."""


def _mode(value: object) -> object:
    if isinstance(value, int):
        raise ValueError('has to be octal and in quotes, as in "0700" for a directory and "0600" for a file')
    return int(value, 8) if isinstance(value, str) and value.isdigit() and not set(value) & {"8", "9"} else value


def _not_too_open(value: int) -> int:
    if value & 0o700 < 0o600:
        raise ValueError('the owner has to read and write, as in "0600"')
    return value


Mode = Annotated[
    int,
    BeforeValidator(_mode),
    AfterValidator(_not_too_open),
    PlainSerializer(lambda mode: f"{mode:04o}", when_used="json"),
    Field(ge=0, le=0o777),
]
"""A number with the permissions of a file, which is written as octal digits in quotes: "0700"."""


def _mount(value: object) -> object:
    if isinstance(value, str) and value.lower() in ("true", "false"):  # values in the environment are texts
        return value.lower() == "true"
    if isinstance(value, str) and not value.startswith("/"):
        raise ValueError('has to be true, false, or the path of a mount point, as in "/mnt/crashes"')
    return value


class Files(BaseModel):
    """The keys that a store and a destination of C{type = "filesystem"} have in common."""

    model_config = CONFIG

    root: PlainPath
    require_mount: Annotated[bool | str, BeforeValidator(_mount)] = False
    min_free_bytes: int = Field(default=268435456, ge=0)
    sync: Literal["files", "filesystem"] = "files"
    directory_mode: Mode = 0o700
    file_mode: Mode = 0o600

    @model_validator(mode="after")
    def _directories_can_be_entered(self) -> Self:
        if self.directory_mode & 0o700 != 0o700:
            raise ValueError('directory_mode: the owner has to read, write and enter, as in "0700"')
        return self


def _in_bytes(value: int) -> int:
    if 0 < value < _LEAST_KEPT:
        raise ValueError(f"is a number of bytes, and at least {_LEAST_KEPT}: with less, no crash would stay; or 0")
    return value


class Storage(Files):
    """C{[[storage]]}: one store, which keeps crashes on a file system."""

    threads: int = Field(default=4, gt=0, le=256)
    timeout_s: float = Field(default=10.0, gt=0)
    low_free_bytes: int = Field(default=0, ge=0)
    keep_days: int = Field(default=0, ge=0, le=36500)
    keep_deferred_days: int = Field(default=0, ge=0, le=36500)
    keep_bytes: Annotated[int, AfterValidator(_in_bytes)] = Field(default=0, ge=0)
    expire_waiting: bool = False

    @model_validator(mode="after")
    def _low_is_before_full(self) -> Self:
        if self.low_free_bytes and self.low_free_bytes <= self.min_free_bytes:
            raise ValueError(
                f"low_free_bytes: has to be more than min_free_bytes ({self.min_free_bytes}), below which the store "
                "counts as full; or 0"
            )
        return self


def apart(stores: Sequence[Storage]) -> Sequence[Storage]:
    """
    Check that no two stores have the same root.

    @raise ValueError: two have.
    """
    roots = [os.path.abspath(store.root) for store in stores]
    for root in roots:
        if roots.count(root) > 1:
            raise ValueError(f"two stores have the root {root}")
    return stores
