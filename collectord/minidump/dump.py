"""
What a minidump says of the crash: the exception, the thread that it came from, and the system.
"""

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final, NamedTuple

from collectord.errors import UnreadableMinidump
from collectord.minidump.cpus import CPUS, OTHER_NAMES, Cpu
from collectord.minidump.modules import Modules
from collectord.minidump.streams import Streams, layouts_of, numbers_in
from collectord.pieces import ReaderAt

MOST_THREADS: Final = 8192
"""Threads among which the one that crashed is looked for."""

MOST_WORDS: Final = 512
"""Words of its stack that are looked at."""

_WORDS: Final = {4: Struct("<64I"), 8: Struct("<64Q")}
"""Some words of a stack, by their size."""

_THREADS, _EXCEPTION, _SYSTEM, _MISC = 3, 6, 7, 15

_CRASH: Final = Struct("<II II QQ II 15Q II")
"""
Thread, padding; code, flags; nested record, address; number of parameters, padding; parameters; the size and place of
the context.
"""

_MACHINE: Final = Struct("<HHHBB IIII")
"""Processor, level, revision, how many, product; major, minor and build number of the system, and which one it is."""

_PROCESS: Final = Struct("<IIII")
"""Size, flags, process id, and when the process began."""

_HAS_TIMES: Final = 2
_IDS: Final = layouts_of("I44x")
"""Of an entry of the list of threads: its id."""

_STACK: Final = Struct("<24xQII8x")
"""Of an entry: the address, size and place of the stack."""

_BLOCK: Final = 512 * _STACK.size
"""Bytes of the list that are read together. For all of a long one the system would have to find memory each time."""

SYSTEMS: Final = {
    1: "Windows",
    2: "Windows",
    0x8101: "macOS",
    0x8102: "iOS",
    0x8201: "Linux",
    0x8202: "Solaris",
    0x8203: "Android",
    0x8205: "NaCl",
    0x8206: "Fuchsia",
}


class ExceptionInfo(NamedTuple):
    """
    An exception is why the program was stopped.

    @ivar parameters: what the system says besides; for Windows only they are certain.
    """

    code: int
    flags: int
    parameters: Sequence[int]


class Minidump(NamedTuple):
    """
    What is read of a minidump.

    @ivar cpu: the name of the processor; its number in hexadecimal if it is not known.
    @ivar kind: of the processor; None if its contexts are not read.
    @ivar system: the name of the system; empty if it is not known.
    @ivar instruction: the address that the program crashed at, by the context of the exception; None if there is none.
    @ivar stack: the words of the stack of the thread that crashed, from the stack pointer upwards; as many as are in
        the dump, and L{MOST_WORDS} at most.
    @ivar modules: None if there is no list of them.
    @ivar uptime_s: for how long the program had run.
    """

    cpu: str
    kind: Cpu | None
    system: str
    system_version: str
    exception: ExceptionInfo
    instruction: int | None
    stack: bytes
    modules: Modules | None
    uptime_s: int | None

    def words(self) -> Iterator[Sequence[int]]:
        """Return the words of C{stack}, some at a time. After the last there may be zeros."""
        layout = _WORDS[8 if self.kind is None else self.kind.word]
        return layout.iter_unpack(self.stack + bytes(-len(self.stack) % layout.size))


def read_minidump(file: ReaderAt) -> Minidump:
    """
    Read a minidump.

    A damaged one is read as far as it goes: without its stack, its modules or its times, if it must be.

    @raise UnreadableMinidump: it is no minidump, or has no exception, or does not name its system.
    """
    streams = Streams(file)
    thread, _, code, flags, _, _, count, _, *more = streams.stream(_EXCEPTION, _CRASH)
    number, _, _, _, _, major, minor, build, platform = streams.stream(_SYSTEM, _MACHINE)
    kind = CPUS.get(number)
    *parameters, context_size, context_at = more
    registers = None if kind is None else _registers(streams, kind, context_size, context_at)
    return Minidump(
        cpu=kind.name if kind is not None else OTHER_NAMES.get(number, f"{number:#x}"),
        kind=kind,
        system=SYSTEMS.get(platform, ""),
        system_version=f"{major}.{minor}.{build}" if major or minor or build else "",
        exception=ExceptionInfo(code, flags, parameters[: min(count, len(parameters))]),
        instruction=None if registers is None else registers[0],
        stack=b"" if registers is None or kind is None else _stack(streams, kind, thread, registers[1]),
        modules=_modules(streams),
        uptime_s=_uptime(streams),
    )


def _registers(streams: Streams, kind: Cpu, size: int, at: int) -> tuple[int, int] | None:
    context = streams.read_some(at, min(size, kind.context.size))
    return kind.registers_in(context) if len(context) == kind.context.size else None


def _stack(streams: Streams, kind: Cpu, thread: int, pointer: int) -> bytes:
    pointer -= pointer % kind.word
    try:
        address, size, at = _stack_of(streams, thread)
    except UnreadableMinidump:
        return b""
    begin = pointer - address
    if not 0 <= begin < size:
        return b""
    found = streams.read_some(at + begin, min(size - begin, MOST_WORDS * kind.word))
    return found[: len(found) - len(found) % kind.word]


def _stack_of(streams: Streams, thread: int) -> tuple[int, int, int]:
    """Return the address, size and place of the stack of a thread; its size is 0 if it is not in the list."""
    begin, count = streams.entries(_THREADS, _STACK.size, MOST_THREADS)
    end = begin + count * _STACK.size
    for at in range(begin, end, _BLOCK):
        threads = streams.read(at, min(_BLOCK, end - at))
        ids = numbers_in(threads, _IDS)
        if thread in ids:
            return _STACK.unpack_from(threads, ids.index(thread) * _STACK.size)
    return 0, 0, 0


def _modules(streams: Streams) -> Modules | None:
    try:
        return Modules(streams)
    except UnreadableMinidump:
        return None


def _uptime(streams: Streams) -> int | None:
    try:
        _, flags, _, began = streams.stream(_MISC, _PROCESS)
    except UnreadableMinidump:
        return None
    return streams.time - began if flags & _HAS_TIMES and 0 < began <= streams.time else None
