"""
The texts that clients of a dialect are answered.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_NAMES: Final = ("prefix", "crash_id", "hex", "view_url", "view_line", "rule", "version", "reason")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def _is_template(text: str) -> str:
    for name in _PLACEHOLDER.findall(text):
        if name not in _NAMES:
            raise ValueError(f"{{{name}}} is unknown; known are {', '.join(f'{{{known}}}' for known in _NAMES)}")
    return text


def _is_header(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError("has to be a media type, as in application/json")
    return text


Template = Annotated[str, AfterValidator(_is_template)]
"""A text with placeholders. What is in braces but no name in small letters stays as it is, so it may be JSON."""


class Answers(BaseModel):
    """
    What the clients of a dialect are answered.

    @ivar kept: the crash is durable. It knows C{{prefix}}, C{{crash_id}} and, without hyphens, C{{hex}}; C{{view_url}},
        and the line C{{view_line}} that tells it, if the operator has a page for each crash.
    @ivar rejected: a throttle rule rejected it, C{{rule}}.
    @ivar stopped: a throttle rule rejected it, and wants no more reports of this C{{version}}. Empty: as C{rejected}.
    @ivar stop_s: if a throttle rule wants no more reports, a client of Sentry's is told to send none for so many
        seconds; 0: it is not.
    @ivar ignored: a throttle rule ignores it.
    @ivar refused: it is refused, for a C{{reason}}.
    @ivar no_dump: it has no dump, and nothing of it is kept.
    @ivar type: the media type of them all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kept: Template = "CrashID={prefix}{crash_id}\n{view_line}"
    rejected: Template = "Discarded=rule_{rule}"
    stopped: Template = ""
    stop_s: int = Field(default=0, ge=0)
    ignored: Template = "Unsupported=1\n"
    refused: Template = "Discarded={reason}"
    no_dump: Template = ""
    type: Annotated[str, AfterValidator(_is_header)] = "text/plain; charset=utf-8"

    @cached_property
    def content_type(self) -> bytes:
        """The L{type}, as a header has it."""
        return self.type.encode()


def filled_in(template: str, values: Mapping[str, str]) -> str:
    """
    Return C{template} with a value in the place of each placeholder; an unknown one stays as it is.

    @param values: without braces in them.
    """
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template
