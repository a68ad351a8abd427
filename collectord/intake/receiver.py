"""
Receives the body of one submission: it is fed with bytes as they come, and never sees a transport.
"""

from collections import deque
from collections.abc import Iterator
from hmac import compare_digest
from typing import Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from collectord.dialects.load import SUBMIT
from collectord.dialects.table import Asked
from collectord.errors import CollectordError, MalformedReport, TooLarge
from collectord.intake.bodies import format_of
from collectord.intake.budget import MemoryBudget
from collectord.intake.buffer import DumpBuffer
from collectord.intake.completing import complete
from collectord.intake.layers import BodyDecoder, codings_of
from collectord.intake.report import ReportBuilder
from collectord.intake.sender import bearer_token_in, notes_in
from collectord.intake.texts import ReceivedTexts
from collectord.intake.turns import Connection
from collectord.interfaces import IDumpStaging
from collectord.model import SENDER, SENDER_NOTES, CrashReport

_AT_ITS_END: Final = object()
_SENDER: Final = SENDER.encode()
_SENDER_NOTES: Final = SENDER_NOTES.encode()
_FOR_SUBMIT: Final = Asked(SUBMIT)


@frozen(kw_only=True)
class Limits:
    """
    How large a report may be.

    @ivar read: bytes of the body, both as sent and inflated. A larger one is refused.
    @ivar body: bytes of all files together. Of more, the largest are left out.
    @ivar parts: number of parts in the body. Those after them are left out, but for the minidump.
    @ivar annotations: bytes of all annotations together, names and values. What is more is left out.
    @ivar items: values in the JSON of one part, all levels together.
    @ivar levels: depth of lists and objects within each other in JSON.
    """

    read: int
    body: int
    parts: int
    annotations: int
    items: int = 10_000
    levels: int = 100

    def for_relays(self) -> "Limits":
        """
        Return the limits for a client that has the token.

        It may be another collectord, which sends on what it took with the same limits. That may have become much more:
        a byte that was no text has become U+FFFD, which has three bytes; JSON takes six for a control character; an
        annotation may be there by two names; and a part without a name has got one.
        """
        parts, annotations = 10 * self.parts + 500, 12 * self.annotations + 1000 * self.parts
        return evolve(self, read=2 * self.read + annotations, parts=parts, annotations=annotations, items=annotations)


class ReportReceiver:
    """
    Makes a report of the body of one submission. All of it is for the reactor thread.

    @param budget: the memory that all uploads share.
    @param staging: where dumps go that do not fit into memory.
    @param headers: of the request.
    @param length: of the body in bytes; None where it is chunked.
    @param connection: the one that the body comes by.
    @param query: of the URL. That of a relay has nothing to do with the crash.
    @param token: that relays send; empty if there is none.
    @ivar address: of the client, if it is wanted.
    @ivar asked: what the request asks for.
    @ivar refusal: why the report is refused. Once it is set, further bytes are ignored.
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
        query: bytes = b"",
        token: str = "",
        address: str | None = None,
        asked: Asked = _FOR_SUBMIT,
    ) -> None:
        self.asked = asked
        self._limits = limits
        self._budget = budget
        self._staging = staging
        self._headers = headers
        bearer_token = bearer_token_in(self._header(b"Authorization")) or ""
        self._may_relay = bool(token) and compare_digest(token.encode(), bearer_token.encode())
        if self._may_relay:
            self._limits = limits.for_relays()
        self._connection = connection
        self.address = address
        self._query = b"" if headers.hasHeader(_SENDER) else query
        self._size = 0
        self._decoder: BodyDecoder | None = None
        self._decoder_memory = 0
        # Bytes that were received, then None for the end of the body; pieces that were decoded; and parts.
        self._waiting: deque[bytes | None] = deque()
        self._pieces: Iterator[bytes] = iter(())
        self._feeding: Iterator[None] = iter(())
        self._is_behind = False
        self._is_catching_up = False
        self._pauses = 0
        self._waiter: Deferred[None] | None = None
        self._builder: ReportBuilder | None = None
        try:
            self._product = asked.product_by_key(query, self._header)
            self._begin(length)
        except CollectordError as e:
            self.refusal = e

    def _begin(self, length: int | None) -> None:
        most = self._limits.read
        body = format_of(self.asked.dialect, self._header(b"Content-Type"), most, self._reserve)
        codings = codings_of(b",".join(self._headers.getRawHeaders(b"Content-Encoding") or ()))
        inner = [each for each in body.codings if each not in codings]  # a proxy may have put another around it
        self._decoder = BodyDecoder([*inner, *codings], body.plain_begins, most, self._reserve)
        if length == 0:
            raise MalformedReport("no_content_length")
        if length is not None and length > most:
            raise TooLarge
        self._builder = ReportBuilder(
            body.parser,
            self._new_buffer,
            self._budget,
            max_file_bytes=self._limits.body,
            max_parts=self._limits.parts,
            max_annotation_bytes=self._limits.annotations,
            texts=ReceivedTexts(most_items=self._limits.items, most_levels=self._limits.levels),
        )

    def _reserve(self, size: int) -> None:
        self._decoder_memory += size
        self._budget.reserve_annotations(size)

    def _new_buffer(self, name: str) -> DumpBuffer:
        return DumpBuffer(name, self._budget, self._staging, self)

    def received(self, data: bytes) -> None:
        """Take the next bytes of the body. An error in them becomes the L{refusal}."""
        if self.refusal is not None:
            return
        assert self._builder is not None
        try:
            if not self._size and self._decoder is not None and self._decoder.is_needless(data):
                self._decoder = None
            self._size += len(data)
            if self._size > self._limits.read:
                raise TooLarge
            if self._decoder is None and not self._is_behind:
                self._feeding = self._builder.feed(data)
                self._is_behind = next(self._feeding, _AT_ITS_END) is not _AT_ITS_END
            else:
                self._waiting.append(data)
                self._is_behind = True
            if self._is_behind:
                self._catch_up(self._builder)
        except CollectordError as e:
            self.refuse(e)

    def pause(self) -> None:
        """
        Stop reading, and stop working on what has come: it may become a thousand times as much.

        Pauses are counted: it goes on after as many calls of L{resume}.
        """
        self._pauses += 1
        self._connection.pause()

    def resume(self) -> None:
        """Take back one call of L{pause}, and go on if it was the last."""
        self._pauses -= 1
        self._connection.resume()
        if self._is_behind and self._builder is not None:
            try:
                self._catch_up(self._builder)
            except CollectordError as e:
                self.refuse(e)

    def _catch_up(self, builder: ReportBuilder) -> None:
        if self._is_catching_up:
            return
        self._is_catching_up = True
        try:
            while self.refusal is None and not self._pauses:
                if self._connection.rest(self.resume):
                    self.pause()
                    break
                if next(self._feeding, _AT_ITS_END) is not _AT_ITS_END:
                    continue
                piece = next(self._pieces, None)
                if piece:
                    self._feeding = builder.feed(piece)
                elif piece is None and self._waiting:
                    self._pieces = self._decoded(self._waiting.popleft())
                elif piece is None:
                    self._caught_up()
                    break
        finally:
            self._is_catching_up = False

    def _decoded(self, data: bytes | None) -> Iterator[bytes]:
        if self._decoder is None:
            return iter(() if data is None else (data,))
        return self._decoder.finish() if data is None else self._decoder.feed(data)

    def _caught_up(self) -> None:
        self._is_behind = False
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.callback(None)

    def refuse(self, reason: CollectordError) -> None:
        """Give the report up, and what has been received of it. The first reason counts."""
        self.refusal = self.refusal or reason
        self.release()
        self._caught_up()

    async def report(self) -> CrashReport:
        """
        The report. To be called after the last byte, or once there is a L{refusal}.

        @raise ReportRefused: the report is refused.
        @raise StorageError: a dump that does not fit into memory can't be kept anywhere else.
        """
        if self.refusal is not None:
            raise self.refusal
        assert self._builder is not None
        if self._size == 0:
            raise MalformedReport("no_content_length")
        if self._is_behind or self._decoder is not None:
            self._waiting.append(None)
            self._is_behind = True
            self._catch_up(self._builder)
        if self._is_behind:
            self._waiter = Deferred()
            await self._waiter
            if self.refusal is not None:
                raise self.refusal
        dialect = self.asked.dialect
        report = await self._finished(self._builder)
        if dialect.is_plain:
            return report
        return await complete(report, self.asked, self._query, self._product, self._limits.annotations)

    async def _finished(self, builder: ReportBuilder) -> CrashReport:
        return await builder.finish(
            self._size,
            self.asked.kept_query(self._query),
            compressed=self._decoder is not None and not self._decoder.is_plain,
            notes=() if self._decoder is None else self._decoder.notes,
            is_whole=self._decoder is None or self._decoder.is_whole,
            wants_dump=self.asked.dialect.no_dump != "keep",
            user_agent=(self._header(b"User-Agent") or b"").decode(errors="replace"),
            bearer_token=None if self.asked.dialect.key else bearer_token_in(self._header(b"Authorization")),
            sender_stores=(self._header(_SENDER) or b"").decode(errors="replace").split(),
            sender_notes=notes_in(self._header(_SENDER_NOTES)) if self._may_relay else (),
            address=self.address,
        )

    def release(self) -> None:
        """Free what is held for the report, which is saved or given up."""
        self._budget.release_annotations(self._decoder_memory)
        self._decoder_memory = 0
        self._decoder = None
        self._waiting.clear()
        self._pieces = iter(())
        self._feeding = iter(())
        if self._builder is not None:
            self._builder.release()
            self._builder = None  # it knows this object, and collecting such rings as garbage takes time

    def _header(self, name: bytes) -> bytes | None:
        values = self._headers.getRawHeaders(name)
        return values[-1] if values else None
