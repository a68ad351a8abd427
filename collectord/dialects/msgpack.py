"""
Reads MessagePack, with bounds: a few kinds of values, of which only so many may be there.
"""

from struct import Struct, error
from typing import Final

_LEVELS: Final = 100
_FLOAT32, _FLOAT64 = Struct(">f"), Struct(">d")
_TEXTS: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}  # text, then bytes: the size of their length
_LISTS: Final = {0xDC: 2, 0xDD: 4}
_MAPS: Final = {0xDE: 2, 0xDF: 4}
_WHOLE: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_SIGNED: Final = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_EXTENSIONS: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_LONG_EXTENSIONS: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_SINGLE: Final = {0xC0: None, 0xC2: False, 0xC3: True}


def read_msgpack(data: bytes, most_items: int) -> object:
    """
    Read the first value in C{data}. What its extensions are is not known: each becomes C{None}.

    @raise ValueError: it is no MessagePack, or has more than C{most_items} values, or more than 100 levels.
    """
    try:
        return _Reader(data, most_items).value(_LEVELS)
    except (IndexError, error) as e:
        raise ValueError("it is cut off") from e


class _Reader:
    def __init__(self, data: bytes, most_items: int) -> None:
        self._data = data
        self._at = 0
        self._items_left = most_items

    def value(self, levels: int) -> object:
        self._items_left -= 1
        if self._items_left < 0 or not levels:
            raise ValueError("it has too many values")
        kind = self._data[self._at]
        self._at += 1
        if kind < 0x80:
            return kind
        if kind >= 0xE0:
            return kind - 0x100
        if kind in _SINGLE:
            return _SINGLE[kind]
        if kind < 0x90 or kind in _MAPS:
            return self._map(kind & 15 if kind < 0x90 else self._whole(_MAPS[kind]), levels)
        if kind < 0xA0 or kind in _LISTS:
            size = kind & 15 if kind < 0xA0 else self._whole(_LISTS[kind])
            return [self.value(levels - 1) for _ in range(size)]
        if kind < 0xC0 or kind in _TEXTS:
            return self._take(kind & 31 if kind < 0xC0 else self._whole(_TEXTS[kind])).decode(errors="replace")
        return self._number_or_extension(kind)

    def _map(self, size: int, levels: int) -> dict[str, object]:
        found: dict[str, object] = {}
        for _ in range(size):
            name = self.value(levels - 1)
            found[name if isinstance(name, str) else repr(name)[:100]] = self.value(levels - 1)
        return found

    def _number_or_extension(self, kind: int) -> object:
        if kind in _WHOLE:
            return self._whole(_WHOLE[kind])
        if kind in _SIGNED:
            return int.from_bytes(self._take(_SIGNED[kind]), signed=True)
        if kind in (0xCA, 0xCB):
            form = _FLOAT32 if kind == 0xCA else _FLOAT64
            return form.unpack(self._take(form.size))[0]
        if kind in _EXTENSIONS:
            self._take(1 + _EXTENSIONS[kind])
        elif kind in _LONG_EXTENSIONS:
            self._take(1 + self._whole(_LONG_EXTENSIONS[kind]))
        else:
            raise ValueError("it has a value of no kind")
        return None

    def _whole(self, size: int) -> int:
        return int.from_bytes(self._take(size))

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError("it is cut off")
        self._at += size
        return taken
