"""
The settings of a publisher to RabbitMQ.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

import pika
from pydantic import Field, field_validator, model_validator

from collectord.model import Crash
from collectord.publish.tls import TlsSettings
from collectord.settings.urls import without_quoting_input

TYPE = "x-queue-type"
"""The argument of a queue that says of which type it is."""
_FORM = "must be amqp://<user>:<password>@<host>:<port>/<vhost>, or amqps; special characters as %40"
_OPTIONS = frozenset({"heartbeat"})
"""What the query of the URL may have."""


class RabbitmqSettings(TlsSettings):
    """
    The settings of a publisher of C{type = "rabbitmq"}.

    @ivar url: C{amqp://user:password@host:port/vhost}, or C{amqps}.
    @ivar priority_queue: the queue of the crashes that L{priority_when} selects; empty: there is none.
    @ivar priority_when: selects crashes: annotation names, and a list of values of each.
    @ivar declare: make the queues, as durable ones, if they do not exist.
    @ivar queue_type: of queues that are made; empty: what the virtual host has as its default.
    @ivar arguments: of queues that are made, as C{x-max-length}.
    """

    url: str = Field(default="amqp://localhost/", repr=False)
    queue: str = Field(default="socorro.standard", min_length=1)
    priority_queue: str = ""
    priority_when: Mapping[str, Sequence[str]] = {}
    declare: bool = True
    queue_type: Literal["", "classic", "quorum", "stream"] = ""
    arguments: Mapping[str, bool | int | str] = {}
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input(_FORM):
            if not url.startswith(("amqp://", "amqps://")):
                raise ValueError(url)
            options = set(parse_qs(urlsplit(url).query, keep_blank_values=True))
        if "ssl_options" in options:
            raise ValueError("ssl_options have no effect here; use ca_file, cert_file and key_file")
        if options - _OPTIONS:
            raise ValueError(f"of the options after the ? only {', '.join(_OPTIONS)} has an effect here")
        with without_quoting_input(_FORM):
            pika.URLParameters(url)
        return url

    @model_validator(mode="after")
    def _makes_sense_together(self) -> Self:
        if self.sets_up_tls and not self.has_tls:
            raise ValueError("ca_file, cert_file and key_file need an amqps:// url")
        if bool(self.priority_queue) != bool(self.priority_when):
            raise ValueError("set both priority_queue and priority_when, or neither")
        if (self.queue_type or self.arguments) and not self.declare:
            raise ValueError("queue_type and arguments are of queues that are made, and with declare = false none is")
        if self.queue_type and self.arguments.get(TYPE, self.queue_type) != self.queue_type:
            raise ValueError(f"queue_type and {TYPE} in arguments contradict each other")
        return self

    @property
    def has_tls(self) -> bool:
        """Whether the connection uses TLS."""
        return self.url.startswith("amqps:")

    @property
    def queues(self) -> Sequence[str]:
        """All queues that ids are published to."""
        return [queue for queue in (self.queue, self.priority_queue) if queue]

    def queue_for(self, crash: Crash) -> str:
        """Return the queue for the id of C{crash}."""
        urgent = any(crash.raw_crash.get(name) in values for name, values in self.priority_when.items())
        return self.priority_queue if urgent and self.priority_queue else self.queue
