"""
The kinds of processors, and where the registers that matter lie in the context of a thread.
"""

from collections.abc import Mapping
from struct import Struct
from typing import Final

from attrs import frozen


@frozen
class Cpu:
    """
    One kind of processor.

    @ivar word: the bytes of a word, and so of an address.
    @ivar context: the beginning of the context of a thread: its flags, and the instruction pointer and the stack
        pointer, in the order in which they are there.
    @ivar flags: one of these bits is set in the flags of a context of this kind of processor.
    @ivar has_stack_first: the stack pointer comes before the instruction pointer.
    @ivar aligns_functions: compilers put the beginnings of functions at multiples of 16.
    @ivar signs_pointers: the upper bits of an address on the stack may hold a signature.
    """

    name: str
    word: int
    context: Struct
    flags: int
    has_stack_first: bool = True
    aligns_functions: bool = False
    signs_pointers: bool = False

    def registers_in(self, context: bytes) -> tuple[int, int] | None:
        """
        Return the instruction pointer and the stack pointer.

        @param context: as many bytes as L{context} has.
        @return: None if it is the context of another kind of processor.
        """
        flags, first, second = self.context.unpack(context)
        if not flags & self.flags:
            return None
        return (second, first) if self.has_stack_first else (first, second)


_X86: Final = Cpu("x86", 4, Struct("<I 180x I 8x I"), 0x0001_0000, has_stack_first=False, aligns_functions=True)
_AMD64: Final = Cpu("amd64", 8, Struct("<48x I 100x Q 88x Q"), 0x0010_0000, aligns_functions=True)
_ARM: Final = Cpu("arm", 4, Struct("<I 52x I 4x I"), 0x4020_0000)
_ARM64: Final = Cpu("arm64", 8, Struct("<I 252x Q Q"), 0x8040_0000, signs_pointers=True)

CPUS: Final[Mapping[int, Cpu]] = {0: _X86, 10: _X86, 9: _AMD64, 5: _ARM, 12: _ARM64, 0x8003: _ARM64}
"""By the number that the system information has for it. Breakpad has numbers and flags of its own for ARM."""

OTHER_NAMES: Final[Mapping[int, str]] = {
    1: "mips",
    3: "ppc",
    6: "ia64",
    0x8001: "sparc",
    0x8002: "ppc64",
    0x8004: "mips64",
    0x8005: "riscv",
    0x8006: "riscv64",
}
"""The names of those whose contexts are not read."""
