from collections.abc import Sequence
from struct import pack, pack_into, unpack_from

import pytest
from attrs import define

from collectord.errors import UnreadableMinidump
from collectord.minidump.dump import MOST_THREADS, MOST_WORDS, Minidump, read_minidump
from collectord.minidump.exceptions import name_of
from collectord.minidump.modules import MOST_MODULES
from collectord.minidump.streams import MOST_STREAMS
from collectord.pieces import Pieces
from tests.support.cases import for_each
from tests.support.minidumps import MadeMinidump, MadeModule, Style

BUILD_ID = bytes(range(1, 17))
APP = MadeModule(0x10_0000, 0x5000, "/opt/My App/app", BUILD_ID)
LIBC = MadeModule(0x40_0000, 0x8000, "libc.so.6", BUILD_ID[::-1])
CPUS = {"x86": 0x20_0000, "arm": 0x20_0000, "amd64": 0x7FFD_0000_1000, "arm64": 0x7FFD_0000_1000}
"""And a stack pointer of each."""


def read(data: bytes) -> Minidump:
    return read_minidump(Pieces([data]))


def words_of(dump: Minidump) -> Sequence[int]:
    return [word for some in dump.words() for word in some][: len(dump.stack) // (dump.kind.word if dump.kind else 8)]


def made(**given: object) -> MadeMinidump:
    return MadeMinidump(**{"modules": [LIBC, APP], "instruction": APP.base + 0x123, "stack": [7, 8, 9], **given})  # type: ignore[arg-type]


def place_of(data: bytes, kind: int) -> tuple[int, int, int]:
    """Where the directory has the stream, its size, and where it is."""
    count, directory = unpack_from("<II", data, 8)
    for number in range(count):
        found, size, at = unpack_from("<III", data, directory + 12 * number)
        if found == kind:
            return directory + 12 * number, size, at
    raise AssertionError(f"no stream {kind}")


def without(data: bytes, kind: int) -> bytes:
    entry, _, _ = place_of(data, kind)
    return data[:entry] + pack("<I", 99) + data[entry + 4 :]


@for_each("style", ["crashpad", "breakpad", "windows"])
@for_each("cpu", CPUS)
def test_what_each_writer_writes(cpu: str, style: Style) -> None:
    dump = read(made(cpu=cpu, style=style, pointer=CPUS[cpu]).write())
    assert (dump.cpu, dump.instruction, words_of(dump)) == (cpu, APP.base + 0x123, [7, 8, 9])
    assert (dump.system, dump.exception.code, dump.uptime_s) == ("Linux", 11, 75)
    assert dump.system_version == ("" if style == "breakpad" else "6.1.0")
    assert dump.modules is not None
    module = dump.modules.at(APP.base + 0x4FFF)
    assert module is not None
    assert (module.base, module.name) == (APP.base, "app")
    assert module.debug_id == "0403020106050807090A0B0C0D0E0F100"
    assert dump.modules.at(APP.base + 0x5000) is None
    assert dump.modules.at(APP.base - 1) is None
    assert (dump.modules.lowest, dump.modules.highest) == (APP.base, LIBC.base + LIBC.size)


def test_it_may_lie_in_pieces() -> None:
    data = made().write()
    dump = read_minidump(Pieces([data[at : at + 7] for at in range(0, len(data), 7)]))
    assert (dump.instruction, words_of(dump)) == (APP.base + 0x123, [7, 8, 9])


@for_each(
    ("path", "name"),
    [
        ("C:\\Program Files\\App\\App.EXE", "App.EXE"),
        ("/usr/lib/libfoo.so.1", "libfoo.so.1"),
        ("Ünïcode.dll", "Ünïcode.dll"),
        ("a\n\x7fb", "a__b"),
        ("", ""),
        ("/", ""),
        ("/" + 300 * "d" + "/" + 100 * "n", 100 * "n"),
        (300 * "n", 256 * "n"),
    ],
    ids=["windows", "linux", "unicode", "control", "empty", "slash", "long_path", "long_name"],
)
def test_the_name_of_a_module(path: str, name: str) -> None:
    modules = read(made(modules=[MadeModule(0x1000, 0x1000, path)]).write()).modules
    assert modules is not None
    module = modules.at(0x1000)
    assert module is not None
    assert (module.name, module.debug_id) == (name, "")


@define
class MadeRecord(MadeMinidump):
    """A dump with one module, whose debug record is this."""

    record: bytes = b""

    def _debug_record(self, module: MadeModule) -> bytes:
        return self.record


@for_each(
    ("record", "debug_id"),
    [
        (b"RSDS" + BUILD_ID + pack("<I", 26) + b"a.pdb\0", "0403020106050807090A0B0C0D0E0F101A"),
        (b"RSDS" + BUILD_ID + b"\1\0\0", ""),
        (b"RSDS" + bytes(16) + b"\1\0\0\0", ""),
        (b"LEpB" + BUILD_ID + b"more", "0403020106050807090A0B0C0D0E0F100"),
        (b"LEpB" + BUILD_ID[:8], "040302010605080700000000000000000"),
        (b"LEpB", ""),
        (b"NB10" + pack("<III", 0, 0x1234ABCD, 2) + b"a.pdb\0", "1234ABCD2"),
        (b"NB10" + pack("<III", 0, 0, 2), ""),
        (b"NB10", ""),
        (b"what?", ""),
        (b"", ""),
    ],
    ids=["pdb", "pdb_cut", "no_guid", "build_id", "short", "empty_id", "old", "old_empty", "old_cut", "other", "none"],
)
def test_debug_ids(record: bytes, debug_id: str) -> None:
    modules = read(MadeRecord(modules=[APP], record=record).write()).modules
    assert modules is not None
    module = modules.at(APP.base)
    assert module is not None
    assert module.debug_id == debug_id


def test_modules_that_overlap() -> None:
    modules = read(made(modules=[APP, MadeModule(APP.base + 0x1000, 0x1000, "inner", BUILD_ID)]).write()).modules
    assert modules is not None
    names = [module and module.name for module in map(modules.at, [APP.base + 0xFFF, APP.base + 0x1000])]
    assert names == ["app", "inner"]


# ——— what is left out, and what is refused ———


def test_the_stack_begins_at_the_stack_pointer() -> None:
    words = list(range(600))
    assert words_of(read(made(stack=words).write())) == words[:MOST_WORDS]
    assert words_of(read(made(stack=[], below=0).write())) == []


def test_a_stack_pointer_between_words() -> None:
    data = bytearray(made(stack=[7, 8, 9]).write())
    _, _, exception = place_of(bytes(data), 6)
    _, context = unpack_from("<II", data, exception + 160)
    pack_into("<Q", data, context + 0x98, 0x7FFD_0000_1003)
    assert words_of(read(bytes(data))) == [7, 8, 9]


@for_each("away", [-65, 24], ids=["below", "above"])
def test_a_stack_pointer_outside_of_the_stack(away: int) -> None:
    data = bytearray(made(stack=[7, 8, 9]).write())
    _, _, exception = place_of(bytes(data), 6)
    _, context = unpack_from("<II", data, exception + 160)
    pack_into("<Q", data, context + 0x98, 0x7FFD_0000_1000 + away)
    dump = read(bytes(data))
    assert (words_of(dump), dump.instruction) == ([], APP.base + 0x123)


def test_a_dump_that_is_cut_off_gives_what_it_has() -> None:
    data = bytearray(made(stack=range(100), below=0, threads=0).write())
    _, _, threads = place_of(bytes(data), 3)
    pack_into("<I", data, threads + 4 + 36, len(data))
    data += pack("<100Q", *range(100))
    assert words_of(read(bytes(data))) == list(range(100))
    assert words_of(read(bytes(data[: -90 * 8 + 3]))) == list(range(10))


@for_each(("kind", "lost"), [(3, "stack"), (4, "modules"), (15, "uptime_s")], ids=["threads", "modules", "misc"])
def test_it_is_read_without_a_stream(kind: int, lost: str) -> None:
    whole, dump = read(made().write()), read(without(made().write(), kind))
    assert getattr(whole, lost)
    assert not getattr(dump, lost)
    assert (dump.cpu, dump.instruction) == (whole.cpu, whole.instruction)


@for_each("kind", [6, 7], ids=["exception", "system"])
def test_it_is_not_read_without_these(kind: int) -> None:
    with pytest.raises(UnreadableMinidump, match=f"no stream {kind}"):
        read(without(made().write(), kind))


@for_each(
    "data",
    [b"", b"MDMP", b"PMDM" + made().write()[4:], made().write()[:40], b"MDMP\x93\xa8" + made().write()[6:]],
    ids=["empty", "begin", "other_order", "no_directory", "version"],
)
def test_no_minidump(data: bytes) -> None:
    with pytest.raises(UnreadableMinidump):
        read(data)


def test_a_context_of_another_processor() -> None:
    data = bytearray(made().write())
    _, _, machine = place_of(bytes(data), 7)
    pack_into("<H", data, machine, 12)
    dump = read(bytes(data))
    assert (dump.cpu, dump.instruction, words_of(dump)) == ("arm64", None, [])


@for_each(("number", "cpu"), [(0x8006, "riscv64"), (0x4242, "0x4242")], ids=["riscv64", "unknown"])
def test_processors_whose_contexts_are_not_read(number: int, cpu: str) -> None:
    data = bytearray(made().write())
    _, _, machine = place_of(bytes(data), 7)
    pack_into("<H", data, machine, number)
    dump = read(bytes(data))
    assert (dump.cpu, dump.instruction, words_of(dump)) == (cpu, None, [])


def test_more_threads_than_are_looked_at() -> None:
    assert words_of(read(made(threads=2 * MOST_THREADS - 4).write())) == [7, 8, 9]
    assert words_of(read(made(threads=2 * MOST_THREADS + 4).write())) == []


def test_more_modules_than_are_looked_at() -> None:
    many = [MadeModule(0x1000 * number, 0x1000, f"m{number}") for number in range(1, MOST_MODULES + 2)]
    modules = read(made(modules=many).write()).modules
    assert modules is not None
    last = modules.at(0x1000 * MOST_MODULES)
    assert last is not None
    assert last.name == f"m{MOST_MODULES}"
    assert modules.at(0x1000 * MOST_MODULES + 0x1000) is None


def test_more_streams_than_are_looked_at() -> None:
    data = made().write()
    count, directory = unpack_from("<II", data, 8)
    entries = data[directory : directory + 12 * count]
    for before, is_read in [(MOST_STREAMS - count, True), (MOST_STREAMS, False)]:
        longer = data + before * pack("<III", 0, 0, 0) + entries
        longer = longer[:8] + pack("<II", before + count, len(data)) + longer[16:]
        if is_read:
            assert read(longer).instruction == APP.base + 0x123
        else:
            with pytest.raises(UnreadableMinidump):
                read(longer)


@for_each("uptime", [0, 1_700_000_000, -1], ids=["none", "no_beginning", "from_the_future"])
def test_odd_uptimes(uptime: int) -> None:
    assert read(made(uptime=uptime).write()).uptime_s == (0 if uptime == 0 else None)


@for_each(
    ("system", "code", "parameters", "name"),
    [
        ("Windows", 0xC0000005, [0, 4], "ACCESS_VIOLATION_READ"),
        ("Windows", 0xC0000005, [1, 4], "ACCESS_VIOLATION_WRITE"),
        ("Windows", 0xC0000005, [8, 4], "ACCESS_VIOLATION_EXEC"),
        ("Windows", 0xC0000005, [5, 4], "ACCESS_VIOLATION"),
        ("Windows", 0xC0000005, [], "ACCESS_VIOLATION"),
        ("Windows", 0x80000003, [0], "BREAKPOINT"),
        ("Windows", 0x12345678, [], ""),
        ("Linux", 6, [], "SIGABRT"),
        ("Android", 11, [], "SIGSEGV"),
        ("macOS", 1, [], "EXC_BAD_ACCESS"),
    ],
)
def test_names_of_exceptions(system: str, code: int, parameters: Sequence[int], name: str) -> None:
    dump = read(made(system=system, code=code, parameters=parameters).write())
    assert name_of(dump.exception, dump.system) == name
