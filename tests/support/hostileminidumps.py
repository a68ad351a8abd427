"""
Minidumps that are made to take long: of each thing they have as many as are looked at, or say that they have more.
"""

from collections.abc import Callable, Mapping
from struct import pack, pack_into
from typing import Final

from collectord.minidump.dump import MOST_THREADS, MOST_WORDS
from collectord.minidump.modules import MOST_MODULES
from tests.support.minidumps import MadeMinidump, MadeModule

_ID: Final = bytes(range(1, 17))


def _made(path: str, *, size: int = 0x10_0000, cpu: str = "amd64", step: int = -1) -> MadeMinidump:
    """
    With a word on the stack for every other module, the last ones first.

    @param step: 1 or -1: in this order the modules are listed, by their addresses.
    """
    modules = [MadeModule(0x1000_0000 + 0x10_0000 * n, size, path.format(n), _ID) for n in range(MOST_MODULES)]
    return MadeMinidump(
        cpu=cpu,
        pointer=0x7000_0000,
        modules=modules[::step],
        instruction=modules[5].base + 0x1234,
        stack=[module.base + 0x1_2345 for module in modules[::-2]][:MOST_WORDS],
        threads=2 * MOST_THREADS - 4,
        memory=1000,
    )


def _saying_more(data: bytes) -> bytes:
    """The numbers of entries are those that fill the file, many times."""
    changed = bytearray(data)
    pack_into("<I", changed, 8, 2**32 - 1)
    return bytes(changed) + pack("<III", 9, 2**32 - 1, 0) * 1000


HOSTILE: Final[Mapping[str, Callable[[], bytes]]] = {
    "runtimes": _made("libc.so.6").write,
    "long_names": _made("/" + 5000 * "d" + "/libstdc++.so.{}").write,
    "no_names": _made("").write,
    "own": _made("lib{}.so").write,
    "x86": _made("libc.so.6", cpu="x86").write,
    "arm64": _made("libc.so.6", cpu="arm64").write,
    "empty_modules": _made("libc.so.6", size=0).write,
    "ascending": _made("libc.so.6", step=1).write,
    "streams": lambda: _saying_more(_made("libc.so.6").write()),
}
"""Each makes one: they are long, and take long to make."""
