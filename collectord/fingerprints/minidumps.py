"""
The facts of a crash that a minidump tells: its place, and its fingerprint.
"""

from collections.abc import Sequence
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
    code = hex(dump.exception.code)
    place = f"{dump.cpu} {code}"
    module = offset = where = ""
    if dump.instruction is not None and dump.modules is not None and (found := dump.modules.at(dump.instruction)):
        module, offset = found.name, hex(dump.instruction - found.base)
        where = _shown(found, dump.instruction)
        place = f"{place} {where or module.lower()}".rstrip()
    words = _on_the_stack(dump)
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


def _on_the_stack(dump: Minidump) -> Sequence[str]:
    """Return the first distinct words of the stack that seem to be return addresses, as L{_shown}."""
    modules, kind = dump.modules, dump.kind
    if modules is None or kind is None:
        return []
    lowest, highest = modules.lowest + _HEADERS, modules.highest
    bits = _FUNCTION - 1 if kind.aligns_functions else -1  # of which one is set in a return address
    found: dict[int, str] = {}
    for words in dump.words():
        if kind.signs_pointers:
            address = (1 << highest.bit_length()) - 1
            words = [word & address for word in words]
        for word in words:
            if not (lowest <= word < highest and word & bits):
                continue
            module = modules.at(word, _HEADERS)
            if module is not None and (shown := _shown(module, word)):
                found[word] = shown
                if len(found) == _WORDS:
                    return list(found.values())
    return list(found.values())


def _shown(module: Module, address: int) -> str:
    """Return the name, debug id and offset of an address; empty if its module is not the application's own."""
    name = module.debug_id and lower_if_own(module.name)
    return name and f"{name} {module.debug_id} {hex(address - module.base)}"
