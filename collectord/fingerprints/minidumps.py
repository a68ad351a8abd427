"""
The facts of a crash that a minidump tells: its place, and its fingerprint.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from collectord.fingerprints.hashing import fingerprint
from collectord.fingerprints.runtimes import lower_if_own
from collectord.minidump.dump import Minidump, read_minidump
from collectord.minidump.exceptions import name_of
from collectord.minidump.modules import Module
from collectord.model import CrashFacts
from collectord.pieces import ReaderAt

_WORDS: Final = 2
"""Words of the stack that a fingerprint is made of."""

_HEADERS: Final = 0x1000
"""The first bytes of a module hold headers and no code. Handles of modules are addresses there."""

_FUNCTION: Final = 16


def facts_in(file: ReaderAt) -> CrashFacts:
    """
    Return what the minidump in C{file} tells of the crash.

    There is no fingerprint if nothing in it is of the application: the same would be found in crashes of any other.

    @raise UnreadableMinidump: it is no minidump, or it is damaged.
    """
    dump = read_minidump(file)
    finder = _OwnAddresses(dump)
    code = hex(dump.exception.code)
    place = f"{dump.cpu} {code}"
    module = offset = where = ""
    if dump.instruction is not None and (found := finder.module_at(dump.instruction)) is not None:
        module, offset = found.name, hex(dump.instruction - found.base)
        where = finder.shown(found, dump.instruction)
        place = f"{place} {where or module.lower()}".rstrip()
    words = list(islice(finder.on_the_stack(), _WORDS))
    return CrashFacts(
        fingerprint=fingerprint([place, *words]) if where or words else None,
        place=place,
        cpu=dump.cpu,
        exception_code=code,
        exception_name=name_of(dump.exception, dump.system),
        module=module,
        module_offset=offset,
        os=f"{dump.system} {dump.system_version}".strip(),
        uptime_s=dump.uptime_s,
    )


class _OwnAddresses:
    """Finds the addresses in a minidump that are in the application's own modules."""

    def __init__(self, dump: Minidump) -> None:
        self._dump = dump
        self._modules = dump.modules
        self._names: dict[int, str] = {}

    def module_at(self, address: int) -> Module | None:
        """Return the module that an address is in."""
        return None if self._modules is None else self._modules.at(address)

    def shown(self, module: Module, address: int) -> str:
        """Return the name, debug id and offset of an address; empty if its module is not the application's own."""
        name = self._names.get(module.base)
        if name is None:
            name = self._names[module.base] = self._own_name(module)
        return name and f"{name} {hex(address - module.base)}"

    def on_the_stack(self) -> Iterator[str]:
        """Find the distinct words of the stack that seem to be return addresses, and return them as L{shown}."""
        modules, kind = self._modules, self._dump.kind
        if modules is None or kind is None:
            return
        lowest, highest = modules.lowest + _HEADERS, modules.highest
        bits = _FUNCTION - 1 if kind.aligns_functions else -1  # of which one is set in a return address
        seen = set()
        for words in self._dump.words():
            if kind.signs_pointers:
                address = (1 << highest.bit_length()) - 1
                words = [word & address for word in words]
            for word in [word for word in words if lowest <= word < highest and word & bits]:
                module = modules.at(word, _HEADERS) if word not in seen else None
                seen.add(word)
                if module is not None and (shown := self.shown(module, word)):
                    yield shown

    def _own_name(self, module: Module) -> str:
        """Return the name and debug id of a module; empty if it is not the application's own."""
        name = lower_if_own(module.name)
        debug_id = self._modules.debug_id_of(module) if name and self._modules is not None else ""
        return debug_id and f"{name} {debug_id}"
