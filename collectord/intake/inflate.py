"""
Inflates gzip bodies piece by piece: memory stays bounded, and a decompression bomb stops at the limit.
"""

from collections.abc import Iterator

from zlib_ng import zlib_ng

from collectord.errors import MalformedReport, TooLarge

_GZIP = 16 + zlib_ng.MAX_WBITS
_PIECE = 64 * 1024


class Inflater:
    """
    Inflates a body of one or more gzip members.

    @param limit: bytes that the body may have when it is inflated.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._member = zlib_ng.decompressobj(_GZIP)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Inflate the next bytes, and yield pieces of at most 64 KiB. Consume all of them before the next call.

        @raise TooLarge: the body is larger than the limit.
        @raise MalformedReport: C{bad_gzip}: it is not valid gzip.
        """
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")  # padding is legal between members and after the last
                if not data:
                    return
                self._member = zlib_ng.decompressobj(_GZIP)
            try:
                piece = self._member.decompress(data, _PIECE)
            except zlib_ng.error as e:  # type: ignore[misc]
                raise MalformedReport("bad_gzip") from e
            data = self._member.unconsumed_tail or self._member.unused_data
            self._left -= len(piece)
            if self._left < 0:
                raise TooLarge
            if piece:
                yield piece

    def finish(self) -> None:
        """
        The body has ended.

        @raise MalformedReport: C{bad_gzip}: its last member is cut off.
        """
        if not self._member.eof:
            raise MalformedReport("bad_gzip")
