"""
The body of one submission: fed with bytes as they come, it never sees a transport.
"""

from collections import deque
from collections.abc import Iterator

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from collectord.errors import CollectordError, MalformedReport, TooLarge
from collectord.intake.budget import MemoryBudget
from collectord.intake.buffer import DumpBuffer
from collectord.intake.extra import parse_extra
from collectord.intake.formdata import boundary_of
from collectord.intake.inflate import Inflater
from collectord.intake.report import ReportBuilder
from collectord.intake.turns import Connection
from collectord.interfaces import IDumpStaging
from collectord.model import SENDER, CrashReport


@frozen(kw_only=True)
class Limits:
    """
    How much of a report is too much.

    @ivar body: bytes, on the wire and unpacked.
    @ivar annotations: bytes of all annotations together.
    @ivar items: values in the JSON of C{extra}, of all levels together.
    @ivar levels: of lists and objects within each other there.
    """

    body: int
    parts: int
    annotations: int
    items: int = 10_000
    levels: int = 100


class ReportReceiver:
    """
    Receives one report.

    @ivar refusal: why the report is not taken; once set, nothing is looked at any more.
    """

    refusal: CollectordError | None = None

    def __init__(
        self,
        limits: Limits,
        budget: MemoryBudget,
        staging: IDumpStaging,
        headers: Headers,
        length: int | None,
        connection: Connection,
    ) -> None:
        self._limits = limits
        self._budget = budget
        self._staging = staging
        self._headers = headers
        self._connection = connection
        self._size = 0
        self._inflater: Inflater | None = None
        self._compressed: deque[bytes] = deque()
        self._pieces: Iterator[bytes] = iter(())
        self._inflating = False
        self._pauses = 0
        self._waiter: Deferred[None] | None = None
        self._builder: ReportBuilder | None = None
        try:
            self._begin(length)
        except CollectordError as e:
            self.refusal = e

    def _begin(self, length: int | None) -> None:
        boundary = boundary_of(self._header("Content-Type"))
        encoding = (self._header("Content-Encoding") or b"").strip().lower()
        if encoding == b"gzip":
            self._inflater = Inflater(self._limits.body)
        elif encoding not in (b"", b"identity"):
            raise MalformedReport("unknown_content_encoding")
        if length == 0:
            raise MalformedReport("no_content_length")
        if length is not None and length > self._limits.body:
            raise TooLarge
        self._builder = ReportBuilder(
            boundary,
            self._new_buffer,
            self._budget,
            max_parts=self._limits.parts,
            max_annotation_bytes=self._limits.annotations,
            read_extra=self._read_extra,
        )

    def _read_extra(self, content: bytes) -> dict[str, str]:
        return parse_extra(content, most_items=self._limits.items, most_levels=self._limits.levels)

    def _new_buffer(self, name: str) -> DumpBuffer:
        return DumpBuffer(name, self._budget, self._staging, self)

    def received(self, data: bytes) -> None:
        """Take the next bytes of the body. What is wrong with them becomes the L{refusal}."""
        if self.refusal is not None:
            return
        assert self._builder is not None
        try:
            self._size += len(data)
            if self._size > self._limits.body:
                raise TooLarge
            if self._inflater is None:
                self._builder.feed(data)
            else:
                self._compressed.append(data)
                self._inflate(self._inflater, self._builder)
        except CollectordError as e:
            self.refuse(e)

    def pause(self) -> None:
        """Read nothing more, and inflate nothing more of what came: it may become a thousand times as much."""
        self._pauses += 1
        self._connection.pause()

    def resume(self) -> None:
        """Take one hold back."""
        self._pauses -= 1
        self._connection.resume()
        if self._inflater is not None and self._builder is not None:
            try:
                self._inflate(self._inflater, self._builder)
            except CollectordError as e:
                self.refuse(e)

    def _inflate(self, inflater: Inflater, builder: ReportBuilder) -> None:
        if self._inflating:
            return
        self._inflating = True
        try:
            while self.refusal is None and not self._pauses:
                if self._connection.rest(self.resume):
                    self.pause()
                    break
                piece = next(self._pieces, None)
                if piece is not None:
                    builder.feed(piece)
                elif self._compressed:
                    self._pieces = inflater.feed(self._compressed.popleft())
                else:
                    self._caught_up()
                    break
        finally:
            self._inflating = False

    def _caught_up(self) -> None:
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.callback(None)

    def refuse(self, reason: CollectordError) -> None:
        """Give the report up."""
        self.refusal = self.refusal or reason
        self.release()
        self._caught_up()

    async def report(self) -> CrashReport:
        """
        The report, after the last byte, or early where it is refused.

        @raise ReportRefused: it is not taken.
        @raise StorageError: a big dump found no place.
        """
        if self.refusal is not None:
            raise self.refusal
        assert self._builder is not None
        if self._size == 0:
            raise MalformedReport("no_content_length")
        if self._inflater is not None:
            if self._pauses:
                self._waiter = Deferred()
                await self._waiter
                if self.refusal is not None:
                    raise self.refusal
            self._inflater.finish()
        return await self._builder.finish(
            self._size,
            compressed=self._inflater is not None,
            user_agent=(self._header("User-Agent") or b"").decode(errors="replace"),
            bearer_token=_bearer_token(self._header("Authorization")),
            sender_stores=(self._header(SENDER) or b"").decode(errors="replace").split(),
        )

    def release(self) -> None:
        """The report is saved, or given up: keep nothing of it here."""
        if self._builder is not None:
            self._builder.release()

    def _header(self, name: str) -> bytes | None:
        values = self._headers.getRawHeaders(name.encode())
        return values[-1] if values else None


def _bearer_token(authorization: bytes | None) -> str:
    scheme, _, token = (authorization or b"").decode(errors="replace").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
