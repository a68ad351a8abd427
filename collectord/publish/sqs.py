"""
A publisher that sends crash ids to a queue of Amazon's SQS, or of another server that speaks its protocol.
"""

import hashlib
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from attrs import field, frozen
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from pydantic import Field, field_validator, model_validator
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from collectord.concurrency.lazily import Lazily
from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.errors import ConfigError, PublishError
from collectord.interfaces import ICrashPublisher
from collectord.model import Crash
from collectord.plugins import PluginContext, PluginSettings, PluginType
from collectord.settings.awskeys import refuse_half_a_user
from collectord.settings.urls import bare_http_parts, without_quoting_input

T = TypeVar("T")

_BATCH = 10
"""The most messages of one request that SQS takes."""
_REQUESTS = 2
"""The most requests at the same time. With few of them the ids that wait go together, which costs less."""
_THREADS = _REQUESTS + 1
_LONGEST = 300
_NOT_SQS = "what answers is no SQS: its answer is no JSON of it"
_TAG = re.compile(r"<[^>]*>")
_AMAZON = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com(?:\.cn)?")
"""The hosts of Amazon's queues, with the region in their names."""


class SqsSettings(PluginSettings):
    """
    The settings of a publisher of C{type = "sqs"}.

    @ivar queue_url: C{https://sqs.<region>.amazonaws.com/<account>/<queue>}, or that of another server.
    @ivar region: if it is empty, it is the one in C{queue_url}, or else that of the usual chain.
    @ivar access_key: if it is empty, credentials come by the usual chain of environment, profile and role.
    @ivar ca_file: a PEM file of certificates to trust instead of the system's.
    """

    queue_url: str
    region: str = ""
    access_key: str = Field(default="", repr=False)
    secret_key: str = Field(default="", repr=False)
    session_token: str = Field(default="", repr=False)
    profile: str = ""
    ca_file: Path | None = None
    timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("queue_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        with without_quoting_input("must be https://host/account/queue, and nothing else"):
            if not bare_http_parts(url).path.strip("/"):
                raise ValueError(url)
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        refuse_half_a_user(self)
        if self.ca_file and self.queue_url.startswith("http:"):
            raise ValueError("ca_file needs an https queue_url")
        return self

    def client(self) -> Any:
        """Make a client, which connects to nothing yet. It may read files, and ask the network for credentials."""
        amazon = _AMAZON.fullmatch(urlsplit(self.queue_url).hostname or "")
        region = self.region or (amazon and (amazon[1] or amazon[2])) or None
        half = self.timeout_s / 2
        # The crashmover has its own pauses between two attempts.
        config = Config(
            connect_timeout=half,
            read_timeout=half,
            max_pool_connections=_THREADS,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        session = Session(
            aws_access_key_id=self.access_key or None,
            aws_secret_access_key=self.secret_key or None,
            aws_session_token=self.session_token or None,
            region_name=region,
            profile_name=self.profile or None,
        )
        # Other servers seldom look at the region, but a signature has to have one.
        return session.client(
            "sqs",
            region_name=session.region_name or (None if amazon else "us-east-1"),
            endpoint_url=None if amazon else self.queue_url.removesuffix(urlsplit(self.queue_url).path),
            verify=str(self.ca_file) if self.ca_file else None,
            config=config,
        )


@frozen(eq=False)
class _Waiting:
    """An id that is to be sent. @ivar done: fires once it is confirmed, or fails."""

    crash_id: str
    done: Deferred[None] = field(factory=Deferred)


@implementer(ICrashPublisher)
class SqsPublisher:
    """
    This publisher sends each id as the body of one message, and up to ten messages in one request.

    To a FIFO queue it sends all of them in one group. An id that comes again within five minutes is no second message.
    """

    _log = Logger()

    def __init__(self, settings: SqsSettings, threads: ThreadPool) -> None:
        self._threads = threads
        self._client = Lazily(settings.client)
        self._url = settings.queue_url
        queue = settings.queue_url.rstrip("/").rpartition("/")[2]
        self._is_fifo = queue.endswith(".fifo")
        self.name = f"sqs {queue}"
        self._waiting: deque[_Waiting] = deque()
        self._requests = 0

    async def publish(self, crash: Crash) -> None:
        waiting = _Waiting(crash.crash_id)
        self._waiting.append(waiting)
        self._send_more()
        await waiting.done

    def _send_more(self) -> None:
        """Begin as many requests as may be made. An id that comes meanwhile waits for others to go with."""
        while self._waiting and self._requests < _REQUESTS:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            batch = [each for each in batch if not each.done.called]  # others were cancelled
            if batch:
                self._requests += 1
                spawn(self._send(batch), self._log, "sending ids failed")

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        problems: Sequence[str | None]
        try:
            problems = await self._do(lambda: self._send_now([each.crash_id for each in batch]))
        except Exception as e:  # also one that the library should not raise: each id has to be told of it
            problems = [str(e) or repr(e)] * len(batch)
        finally:
            self._requests -= 1
        for each, problem in zip(batch, problems, strict=True):
            if problem is None:
                each.done.callback(None)
            else:
                each.done.errback(PublishError(problem))
        self._send_more()

    def _send_now(self, crash_ids: Sequence[str]) -> Sequence[str | None]:
        """Send ids, and return of each why it is not confirmed; None: it is. It blocks."""
        entries = [
            {"Id": str(number), "MessageBody": crash_id}
            | ({"MessageGroupId": "crashes", "MessageDeduplicationId": crash_id} if self._is_fifo else {})
            for number, crash_id in enumerate(crash_ids)
        ]
        answer = _of_sqs(self._client().send_message_batch(QueueUrl=self._url, Entries=entries))
        found = {str(each.get("Id")): each for each in (*answer.get("Failed", ()), *answer.get("Successful", ()))}
        return [self._problem(crash_id, found.get(str(number), {})) for number, crash_id in enumerate(crash_ids)]

    def _problem(self, crash_id: str, said: Mapping[str, Any]) -> str | None:
        """Say why an id is not confirmed by what the server said of it."""
        if said.get("MD5OfMessageBody") == hashlib.md5(crash_id.encode(), usedforsecurity=False).hexdigest():
            return None
        if "Code" in said:
            return f"{self.name}: the server refuses the message: {said['Code']}: {said.get('Message', '')}".rstrip(
                ": "
            )
        return f"{self.name}: the server answers {said.get('MD5OfMessageBody')!r} for the MD5 of the id"

    async def check(self) -> None:
        await self._do(self._look)

    def _look(self) -> None:
        """Ask for an attribute of the queue. It blocks."""
        _of_sqs(self._client().get_queue_attributes(QueueUrl=self._url, AttributeNames=["CreatedTimestamp"]))

    async def close(self) -> None:
        try:
            await self._threads(lambda: self._client.drop(lambda client: client.close()))
        finally:
            self._threads.close()

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await self._threads(work)
        except ClientError as e:
            raise PublishError(f"{self.name}: {_in_words(e)}") from e
        except (BotoCoreError, ResponseParserError, OSError, ValueError) as e:
            raise PublishError(f"{self.name}: {_in_short(str(e)) or repr(e)}") from e
        except (AttributeError, TypeError) as e:  # the library reads other JSON than it expects
            raise PublishError(f"{self.name}: {_NOT_SQS}") from e


def _of_sqs(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Return an answer, as the library has read it. Of a page that is no SQS, as of a captive portal, it reads nothing.

    @raise ValueError: it is another kind of document.
    """
    kind = str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", ""))
    if "json" in kind or "xml" in kind or answer.keys() - {"ResponseMetadata"}:
        return answer
    raise ValueError(f"{_NOT_SQS}, but {kind.partition(';')[0] or 'of no type'}")


def _in_words(error: ClientError) -> str:
    """Say what the server said in one short line; of a server that said nothing, its status."""
    said: Any = error.response.get("Error", {})
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    code, message = str(said.get("Code") or ""), _in_short(str(said.get("Message") or ""))
    return f"answered {status} {code if code != status else ''}".rstrip() + (f": {message}" if message else "")


def _in_short(text: str) -> str:
    """Return a text without the tags of HTML, which a proxy or another kind of server answers, and without its end."""
    line = " ".join(_TAG.sub(" ", text).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _make(settings: SqsSettings, context: PluginContext) -> SqsPublisher:
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise ConfigError(f"ca_file = {str(settings.ca_file)!r}: there is no such file")
    return SqsPublisher(settings, ThreadPool("sqs", _THREADS, context.reactor.callFromThread))


SQS = PluginType(SqsSettings, _make)
"""The entry point C{sqs} of collectord's own publishers (in C{setup.py}) names this."""
