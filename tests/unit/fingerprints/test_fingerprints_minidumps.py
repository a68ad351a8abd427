from attrs import evolve

from collectord.fingerprints.minidumps import facts_in
from collectord.model import CrashFacts
from collectord.pieces import Pieces
from tests.support.cases import for_each
from tests.support.minidumps import MadeMinidump, MadeModule

ID = bytes(range(1, 17))
SHOWN_ID = "0403020106050807090A0B0C0D0E0F10"
APP = MadeModule(0x55_0000_0000, 0x10_0000, "/opt/app/App", ID)
OWN = MadeModule(0x7F_0000_0000, 0x10_0000, "libown.so.1", ID[::-1])
LIBC = MadeModule(0x7F_1000_0000, 0x20_0000, "/lib/libc.so.6", ID)
FONT = MadeModule(0x7F_2000_0000, 0x20_0000, "/usr/share/fonts/a.ttf")
FIRST, SECOND, THIRD = APP.base + 0x2345, OWN.base + 0x1001, APP.base + 0x9999

ABORT = MadeMinidump(modules=[APP, OWN, LIBC, FONT], code=6, instruction=LIBC.base + 0x9EEEC, stack=[FIRST, SECOND])
FAULT = MadeMinidump(modules=[APP, OWN, LIBC, FONT], instruction=APP.base + 0x1F2E, stack=[FIRST, SECOND])


def facts(made: MadeMinidump) -> CrashFacts:
    return facts_in(Pieces([made.write()]))


def with_stack(*stack: int) -> CrashFacts:
    return facts(evolve(FAULT, stack=stack))


def moved(made: MadeMinidump, by: int) -> MadeMinidump:
    """The same crash with all modules at other addresses."""
    modules = [evolve(module, base=module.base + by) for module in made.modules]
    stack = [word + by if word in (FIRST, SECOND, THIRD) else word for word in made.stack]
    return evolve(made, modules=modules[::-1], instruction=made.instruction + by, stack=stack, pointer=0x7FFE_0000_0000)


def test_a_crash_of_the_application() -> None:
    """The values are those that C{docs/fingerprints.rst} computes, and never change for version 1."""
    assert facts(FAULT) == CrashFacts(
        fingerprint="1:988dffa0433ab70e",
        place=f"amd64 0xb app {SHOWN_ID}0 0x1f2e",
        cpu="amd64",
        exception_code="0xb",
        exception_name="SIGSEGV",
        module="App",
        module_offset="0x1f2e",
        os="Linux 6.1.0",
        uptime_s=75,
    )


def test_a_crash_in_a_system_library() -> None:
    """Its offset and debug id change with each update of the system, and all aborts have them in common."""
    found = facts(ABORT)
    assert (found.fingerprint, found.place) == ("1:412238a7a6fecf01", "amd64 0x6 libc.so.6")
    assert (found.module, found.module_offset, found.exception_name) == ("libc.so.6", "0x9eeec", "SIGABRT")


def test_windows() -> None:
    kernel = MadeModule(0x7FFA_0000_0000, 0x10_0000, "C:\\Windows\\System32\\KERNELBASE.dll", ID)
    core = MadeModule(0x7FFB_0000_0000, 0x10_0000, "D:\\App\\AppCore.DLL", ID, age=31)
    found = facts(
        MadeMinidump(
            style="windows",
            system="Windows",
            version=(10, 0, 19045),
            code=0xC0000005,
            parameters=[0, 0],
            instruction=core.base + 0x1_F2E4,
            modules=[kernel, core],
            stack=[kernel.base + 0x1234, core.base, core.base + 0x5678, core.base + 0x1007],
        )
    )
    assert found == CrashFacts(
        fingerprint="1:842ee8363316736e",
        place=f"amd64 0xc0000005 appcore.dll {SHOWN_ID}1F 0x1f2e4",
        cpu="amd64",
        exception_code="0xc0000005",
        exception_name="ACCESS_VIOLATION_READ",
        module="AppCore.DLL",
        module_offset="0x1f2e4",
        os="Windows 10.0.19045",
        uptime_s=75,
    )


@for_each("made", [FAULT, ABORT], ids=["fault", "abort"])
def test_where_things_are_loaded_does_not_matter(made: MadeMinidump) -> None:
    assert facts(moved(made, 0x77_7000)) == facts(made)


@for_each(
    "other",
    [
        evolve(FAULT, instruction=FAULT.instruction + 1),
        evolve(FAULT, code=7),
        evolve(FAULT, cpu="arm64"),
        evolve(FAULT, stack=[FIRST]),
        evolve(FAULT, stack=[SECOND, FIRST]),
        evolve(FAULT, stack=[FIRST, THIRD]),
        evolve(FAULT, stack=[FIRST + 1, SECOND]),
        evolve(FAULT, modules=[evolve(APP, build_id=ID[::-1]), OWN, LIBC]),
        evolve(FAULT, modules=[APP, evolve(OWN, path="libother.so"), LIBC]),
        ABORT,
    ],
    ids=["offset", "code", "cpu", "one_word", "order", "second", "first", "build", "module", "abort"],
)
def test_what_makes_another_fingerprint(other: MadeMinidump) -> None:
    assert facts(other).fingerprint != facts(FAULT).fingerprint


@for_each(
    "other",
    [
        evolve(FAULT, stack=[FIRST, SECOND, THIRD]),
        evolve(FAULT, stack=[FIRST, FIRST, SECOND]),
        evolve(FAULT, stack=[0, 1, 0x7FFD_0000_1010, LIBC.base + 0x1_2345, FIRST, 2**64 - 1, SECOND]),
        evolve(FAULT, stack=[FONT.base + 0x1_2345, FIRST, SECOND]),
        evolve(FAULT, stack=[APP.base, APP.base + 0xFFF, OWN.base + 8, FIRST, SECOND]),
        evolve(FAULT, stack=[APP.base + 0x2340, OWN.base + 0x1000, FIRST, SECOND]),
        evolve(FAULT, stack=[APP.base + APP.size + 1, APP.base - 3, FIRST, SECOND]),
        evolve(FAULT, stack=[*[5] * 510, FIRST, SECOND]),
        evolve(FAULT, version=(5, 4, 3), uptime=None),
        evolve(FAULT, threads=40),
        evolve(FAULT, modules=[evolve(APP, path="/home/me/APP"), OWN, LIBC]),
    ],
    ids=[
        *("third", "again", "other_words", "no_debug_id", "headers", "function_starts", "beside", "deep"),
        *("system", "threads", "directory"),
    ],
)
def test_what_does_not_matter(other: MadeMinidump) -> None:
    assert facts(other).fingerprint == facts(FAULT).fingerprint


def test_words_that_are_too_deep_do_not_count() -> None:
    assert with_stack(*[5] * 512, FIRST).fingerprint == with_stack().fingerprint != with_stack(FIRST).fingerprint


@for_each("cpu", ["arm", "arm64"])
def test_functions_are_not_aligned_everywhere(cpu: str) -> None:
    low = evolve(APP, base=0x10_0000)
    made = MadeMinidump(cpu=cpu, pointer=0x20_0000, modules=[low], instruction=low.base + 0x1F2E)
    shown = [facts(evolve(made, stack=[low.base + offset])).fingerprint for offset in (0x2340, 0x2344)]
    assert len({facts(made).fingerprint, *shown}) == 3


def test_signed_return_addresses() -> None:
    plain = evolve(FAULT, cpu="arm64")
    signed = evolve(plain, stack=[FIRST | 0x1234 << 48, SECOND | 0xFFFF << 48])
    assert facts(signed) == facts(plain)
    assert facts(evolve(signed, cpu="amd64")) != facts(evolve(plain, cpu="amd64"))


@for_each(
    ("made", "place"),
    [
        (evolve(ABORT, stack=[]), "amd64 0x6 libc.so.6"),
        (evolve(FAULT, modules=[]), "amd64 0xb"),
        (evolve(FAULT, modules=[evolve(APP, build_id=b"")], stack=[FIRST]), "amd64 0xb app"),
        (evolve(FAULT, modules=[evolve(APP, path="")], stack=[FIRST]), "amd64 0xb"),
        (evolve(FAULT, instruction=0, stack=[1, 2]), "amd64 0xb"),
    ],
    ids=["abort", "static", "no_debug_id", "no_name", "null"],
)
def test_without_anything_of_the_application_there_is_no_fingerprint(made: MadeMinidump, place: str) -> None:
    found = facts(made)
    assert (found.fingerprint, found.place) == (None, place)


def test_a_call_of_null_is_known_by_its_caller() -> None:
    one, other = (facts(evolve(FAULT, instruction=0, stack=stack)) for stack in ([FIRST], [THIRD]))
    assert one.place == other.place == "amd64 0xb"
    assert None is not one.fingerprint != other.fingerprint is not None
    assert (one.module, one.module_offset) == ("", "")


def test_a_name_that_is_no_text() -> None:
    assert facts(evolve(FAULT, modules=[evolve(APP, path="a\ud800b")])).module == "a\ufffdb"
