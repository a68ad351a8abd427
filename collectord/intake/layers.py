"""
Finds out how a body is encoded, and decodes it. What its first bytes show counts, whatever is announced.
"""

from collections.abc import Callable, Iterator, Sequence

from collectord.errors import MalformedReport
from collectord.intake.codings import BEGIN, CODINGS, Coding, coding_shown_by
from collectord.intake.decoding import StreamsDecoder
from collectord.model import Note

_NONE = frozenset({b"", b"identity", b'""', b"utf-8"})
"""What clients announce that encode nothing. The last two are not legal, and Sentry takes them so, too."""
_MOST_LAYERS = 3
"""So many codings may be around each other: a proxy may compress what is compressed already."""


def codings_of(content_encoding: bytes) -> Sequence[Coding | None]:
    """
    Return the codings that C{Content-Encoding} announces, in the order in which they were applied.

    @return: one C{None} if not all of them are known, or if they are too many.
    """
    if not content_encoding:
        return ()
    names = (name.strip().lower() for name in content_encoding.split(b","))
    codings = [CODINGS.get(name) for name in names if name not in _NONE]
    return codings if len(codings) <= _MOST_LAYERS and None not in codings else [None]


class BodyDecoder:
    """
    Decodes one body layer by layer: it has a decoder for the outermost coding, and for the rest another of itself.

    A proxy may have decoded the body already, or encoded it without a word, which its first bytes show.

    @param codings: those that are announced, see L{codings_of}.
    @param plain_begins: how the body may begin if it is not encoded.
    @param limit: bytes that the body may have when it is decoded.
    @param reserve: called with bytes of memory that are needed until the body has ended. It may raise.
    @param outer: the codings that the bytes were in before they came here.
    @ivar is_plain: whether the body is not encoded. It is so as long as that is not known yet.
    @ivar is_whole: whether all of it was decoded, and undamaged. It is known when it has finished, as L{notes} are.
    @ivar notes: what was put right.
    """

    def __init__(
        self,
        codings: Sequence[Coding | None],
        plain_begins: tuple[bytes, ...],
        limit: int,
        reserve: Callable[[int], None],
        outer: Sequence[Coding | None] = (),
    ) -> None:
        self._codings = codings
        self._limit = limit
        self._reserve = reserve
        self._outer = outer
        self._plain_begins = plain_begins
        self._begin: bytes | None = b""
        self._layers: tuple[StreamsDecoder, BodyDecoder] | None = None
        self.is_plain = True
        self.is_whole = True
        self.notes: list[Note] = []

    def is_needless(self, begin: bytes) -> bool:
        """Whether a body that begins with C{begin} is not announced as encoded, and does not look so."""
        return not self._codings and any(plain[:1] == begin[:1] for plain in self._plain_begins)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Decode the next bytes, and yield pieces of 100 KiB at most, which may be empty. Consume all of them before the
        next call.

        @raise TooLarge: the body is larger than the limit.
        @raise MalformedReport: C{unknown_content_encoding}, or C{bad_gzip} and so on: the bytes can't be decoded.
        """
        if self._begin is not None:
            data = self._begin + data
            if len(data) < BEGIN or any(begin != data and begin.startswith(data) for begin in self._plain_begins):
                self._begin = data
                yield b""
                return
            self._start(data)
        yield from self._decode(data)

    def finish(self) -> Iterator[bytes]:
        """
        Decode the rest: the body has ended. If it is cut off or damaged, what was decoded counts.

        @raise TooLarge: as L{feed}.
        @raise MalformedReport: as L{feed}; or nothing could be decoded.
        """
        if self._begin is not None:
            data = self._begin
            self._start(data)
            yield from self._decode(data)
        if self._layers is not None:
            layer, inner = self._layers
            for piece in layer.finish():
                yield from inner.feed(piece)
            yield from inner.finish()
            note = layer.note()
            self.notes += inner.notes if note is None else [note, *inner.notes]
            self.is_whole = layer.is_whole and inner.is_whole

    def _decode(self, data: bytes) -> Iterator[bytes]:
        if self._layers is None:
            yield data
        else:
            layer, inner = self._layers
            for piece in layer.feed(data):
                yield from inner.feed(piece)

    def _start(self, data: bytes) -> None:
        """Decide by the beginning of the body how it is encoded, if it is."""
        self._begin = None
        announced = self._codings[-1] if self._codings else None
        if data.startswith(self._plain_begins):
            if self._codings and announced not in self._outer:
                what = "not encoded" if announced is None or not self._outer else f"not encoded in {announced.name}"
                self.notes.append(Note("repaired", f"the Content-Encoding is wrong: the body is {what}"))
            return
        coding, inner = announced, self._codings[:-1]
        if announced is None or not announced.begin.match(data):
            shown = coding_shown_by(data) if len(self._outer) < _MOST_LAYERS else None
            if shown is not None:
                self.notes.append(
                    Note("repaired", f"the Content-Encoding is wrong: the body is encoded in {shown.name}")
                )
                coding = shown
                if shown in self._codings:  # they are announced in the wrong order
                    inner = [each for each in self._codings if each is not shown]
            elif announced in self._outer:
                coding = None  # two headers of the same value were joined
            elif self._codings and announced is None:
                raise MalformedReport("unknown_content_encoding")
        if coding is not None:
            self.is_plain = False
            outer = [*self._outer, coding]
            self._layers = (
                StreamsDecoder(coding, self._limit, self._reserve),
                BodyDecoder(inner, self._plain_begins, self._limit, self._reserve, outer),
            )
