"""
Decodes chunked bodies (RFC 9112, 7.1), all chunks of one read at once, so that tiny chunks cost little each.
"""

import re
from collections.abc import Callable

from collectord.errors import CollectordError

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]++)(?:;[\t \x21-\x5b\x5d-\x7e\x80-\xff]*+)?\r\n")
_LONGEST_LINE = 1024
_MOST_TRAILERS = 65536
_END = b"\r\n"


class MalformedChunks(CollectordError):
    """A body is not chunked as it should be."""


class ChunkedDecoder:
    """
    Decodes one body.

    @param received: is called with bytes of the body, once a read at most.
    @param finished: is called at the end of the body, with the bytes that follow it.
    """

    def __init__(self, received: Callable[[bytes], None], finished: Callable[[bytes], None]) -> None:
        self._received = received
        self._finished = finished
        self._rest = b""  # of a line that has not come whole
        self._left = 0  # bytes of the chunk that are still missing
        self._in_chunk = False  # or before the line end that follows it
        self._in_trailers = False

    def dataReceived(self, data: bytes) -> None:
        """
        Take the next bytes.

        @raise MalformedChunks: the body can't be decoded. Nothing more may be given then.
        """
        pieces: list[bytes] = []
        try:
            rest = self._decode(self._rest + data, pieces)
        finally:
            if pieces:
                self._received(b"".join(pieces))
        if rest is not None:
            self._finished(rest)

    def _decode(self, data: bytes, pieces: list[bytes]) -> bytes | None:
        """@return: the bytes that follow the body; None where it has not ended."""
        self._rest = b""
        at = 0
        while not self._in_trailers:
            if self._in_chunk:
                piece = data[at : at + self._left]
                if piece:
                    pieces.append(piece)
                    at += len(piece)
                    self._left -= len(piece)
                if data[at : at + 2] != _END:
                    self._wait(data, at)
                    return None
                at += 2
                self._in_chunk = False
            line = _SIZE_LINE.match(data, at)
            if line is None or line.end() - at > _LONGEST_LINE:
                self._wait(data, at)
                return None
            at, self._left = line.end(), int(line[1], 16)
            self._in_chunk = self._left > 0
            self._in_trailers = self._left == 0
        return self._end(data[at:])

    def _wait(self, data: bytes, at: int) -> None:
        self._rest = rest = data[at:]
        is_begun = _END.startswith(rest) if self._in_chunk else _END not in rest and len(rest) <= _LONGEST_LINE
        if not is_begun:
            raise MalformedChunks

    def _end(self, trailers: bytes) -> bytes | None:
        if trailers.startswith(_END):
            return trailers[2:]
        at = trailers.find(_END + _END)
        if at > _MOST_TRAILERS or (at == -1 and len(trailers) > _MOST_TRAILERS):
            raise MalformedChunks
        if at == -1:
            self._rest = trailers
            return None
        return trailers[at + 4 :]
