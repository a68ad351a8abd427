"""
Minidumps that a test makes up: valid ones, as the common writers of them lay them out.
"""

from collections.abc import Sequence
from struct import pack
from typing import Final, Literal

from attrs import define, field, frozen

Style = Literal["crashpad", "breakpad", "windows"]
"""
Who writes it. Crashpad gives the thread that crashed another context than its exception has, and writes build ids as
they are; Breakpad writes them as GUIDs, and has numbers of its own for ARM; Windows writes PDBs, and contexts with more
registers, which flags tell.
"""

CRASHED_AT: Final = 1_700_000_000

_ARCHITECTURES: Final = {"x86": 0, "arm": 5, "amd64": 9, "arm64": 12}
_PLATFORMS: Final = {"Windows": 2, "macOS": 0x8101, "Linux": 0x8201, "Android": 0x8203}


@frozen
class MadeModule:
    """
    What the module list says of a file.

    @ivar build_id: 16 bytes; empty if there is no debug record.
    """

    base: int
    size: int
    path: str
    build_id: bytes = b""
    age: int = 1


@define(kw_only=True)
class MadeMinidump:
    """
    A minidump that is to be written.

    @ivar stack: words of the thread that crashed, from the stack pointer upwards.
    @ivar below: bytes of its stack below the stack pointer that are in the dump, too.
    @ivar threads: how many others there are.
    """

    style: Style = "crashpad"
    cpu: str = "amd64"
    system: str = "Linux"
    version: tuple[int, int, int] = (6, 1, 0)
    code: int = 11
    parameters: Sequence[int] = ()
    instruction: int = 0
    pointer: int = 0x7FFD_0000_1000
    stack: Sequence[int] = ()
    below: int = 64
    modules: Sequence[MadeModule] = ()
    threads: int = 3
    uptime: int | None = 75
    memory: int = 0
    _parts: list[bytes] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)

    def write(self) -> bytes:
        """Return its bytes."""
        kinds = [4, 7, 6, 3] if self.style == "windows" else [7, 6, 3, 4]
        if self.uptime is not None:
            kinds.append(15)
        kinds += [0x4350_0001] if self.style == "crashpad" else [0, 0]
        self._parts, self._size = [], 0
        self._put(bytes(32 + 12 * len(kinds)))
        streams = []
        makers = {3: self._thread_list, 4: self._module_list, 6: self._exception, 7: self._machine, 15: self._misc}
        for kind in kinds:
            content = makers[kind]() if kind in makers else b""
            streams.append(pack("<III", kind, len(content), self._put(content)))
        self._put(bytes(self.memory))
        header = pack("<4sIIIIIQ", b"MDMP", 0xA793, len(kinds), 32, 0, CRASHED_AT, 0)
        return b"".join([header, *streams, *self._parts[1:]])

    @property
    def word(self) -> int:
        """Bytes of a word."""
        return 8 if self.cpu in ("amd64", "arm64") else 4

    def _put(self, data: bytes) -> int:
        at = self._size
        self._parts.append(data)
        self._size += len(data)
        return at

    def _machine(self) -> bytes:
        architecture = _ARCHITECTURES[self.cpu]
        if self.style == "breakpad" and self.cpu == "arm64":
            architecture = 0x8003
        version = (0, 0, 0) if self.style == "breakpad" else self.version
        return pack("<HHHBB IIII IHH 24x", architecture, 6, 1, 4, 1, *version, _PLATFORMS[self.system], 0, 0, 0)

    def _exception(self) -> bytes:
        context = self.context(self.instruction, self.pointer)
        address = self.instruction if self.system == "Windows" else 0x10
        record = pack("<II II QQ II", self.thread, 0, self.code, 0, 0, address, len(self.parameters), 0)
        parameters = [*self.parameters, *[0] * (15 - len(self.parameters))]
        return record + pack("<15Q", *parameters) + pack("<II", len(context), self._put(context))

    @property
    def thread(self) -> int:
        """The id of the one that crashed."""
        return 1000 + self.threads // 2

    def _thread_list(self) -> bytes:
        entries = [pack("<I", self.threads + 1)]
        if self.style == "windows":
            entries.append(b"\0\0\0\0")  # so that the entries are aligned
        elsewhere = self.context(0x1234, 0x7000_0000)  # made once, since there may be very many
        for number in range(self.threads + 1):
            thread = 1000 + number
            crashed = thread == self.thread
            words = pack(f"<{len(self.stack)}{'Q' if self.word == 8 else 'I'}", *self.stack) if crashed else b"\1" * 64
            stack = bytes(self.below) + words
            begin = self.pointer - self.below if crashed else 0x7000_0000 + 0x10000 * number
            same = crashed and self.style != "crashpad"
            context = self.context(self.instruction, self.pointer) if same else elsewhere
            entries.append(pack("<IIIIQ", thread, 0, 0, 0, 0))
            entries.append(pack("<QII", begin, len(stack), self._put(stack)))
            entries.append(pack("<II", len(context), self._put(context)))
        return b"".join(entries)

    def context(self, instruction: int, pointer: int) -> bytes:
        """Return the registers of a thread."""
        if self.cpu == "x86":
            context = bytearray(716)
            context[0:4] = pack("<I", 0x1007F)
            context[0xB8:0xBC], context[0xC4:0xC8] = pack("<I", instruction), pack("<I", pointer)
        elif self.cpu == "amd64":
            context = bytearray(1232 + (900 if self.style == "windows" else 0))
            context[0x30:0x34] = pack("<I", 0x10005F if self.style == "windows" else 0x10000F)
            context[0xF8:0x100], context[0x98:0xA0] = pack("<Q", instruction), pack("<Q", pointer)
        elif self.cpu == "arm":
            context = bytearray(368)
            context[0:4] = pack("<I", 0x4000_0006 if self.style != "windows" else 0x20_0007)
            context[0x40:0x44], context[0x38:0x3C] = pack("<I", instruction), pack("<I", pointer)
        else:
            context = bytearray(796 if self.style == "breakpad" else 912)
            context[0:4] = pack("<I", 0x8000_0006 if self.style == "breakpad" else 0x40_0007)
            context[0x108:0x110], context[0x100:0x108] = pack("<Q", instruction), pack("<Q", pointer)
        return bytes(context)

    def _module_list(self) -> bytes:
        entries = [pack("<I", len(self.modules))]
        for module in self.modules:
            path = module.path.encode("utf-16-le", "surrogatepass")
            name = self._put(pack("<I", len(path)) + path + b"\0\0")
            record = self._debug_record(module)
            entries.append(pack("<QIIII 52x", module.base, module.size, 0, 0, name))
            entries.append(pack("<II", len(record), self._put(record)))
            entries.append(bytes(24))
        return b"".join(entries)

    def _debug_record(self, module: MadeModule) -> bytes:
        if not module.build_id:
            return b""
        if self.style == "crashpad" and self.system in ("Linux", "Android"):
            return b"LEpB" + module.build_id
        age = module.age if self.system == "Windows" else 0
        return b"RSDS" + module.build_id[:16] + pack("<I", age) + b"app.pdb\0"

    def _misc(self) -> bytes:
        assert self.uptime is not None
        return pack("<IIII", 24, 3, self.thread, CRASHED_AT - self.uptime) + bytes(8)
