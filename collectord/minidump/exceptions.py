"""
The names of exceptions: codes of Windows, signals of Linux and Android, exceptions of macOS.
"""

from collections.abc import Mapping
from typing import Final

from collectord.minidump.dump import ExceptionInfo

_WINDOWS: Final = {
    0x40000015: "FATAL_APP_EXIT",
    0x80000001: "GUARD_PAGE",
    0x80000002: "DATATYPE_MISALIGNMENT",
    0x80000003: "BREAKPOINT",
    0x80000004: "SINGLE_STEP",
    0xC0000005: "ACCESS_VIOLATION",
    0xC0000006: "IN_PAGE_ERROR",
    0xC0000008: "INVALID_HANDLE",
    0xC000000D: "INVALID_PARAMETER",
    0xC0000017: "NO_MEMORY",
    0xC000001D: "ILLEGAL_INSTRUCTION",
    0xC0000025: "NONCONTINUABLE_EXCEPTION",
    0xC0000026: "INVALID_DISPOSITION",
    0xC000008C: "ARRAY_BOUNDS_EXCEEDED",
    0xC000008D: "FLT_DENORMAL_OPERAND",
    0xC000008E: "FLT_DIVIDE_BY_ZERO",
    0xC000008F: "FLT_INEXACT_RESULT",
    0xC0000090: "FLT_INVALID_OPERATION",
    0xC0000091: "FLT_OVERFLOW",
    0xC0000092: "FLT_STACK_CHECK",
    0xC0000093: "FLT_UNDERFLOW",
    0xC0000094: "INTEGER_DIVIDE_BY_ZERO",
    0xC0000095: "INTEGER_OVERFLOW",
    0xC0000096: "PRIVILEGED_INSTRUCTION",
    0xC00000FD: "STACK_OVERFLOW",
    0xC0000135: "DLL_NOT_FOUND",
    0xC0000138: "ORDINAL_NOT_FOUND",
    0xC0000139: "ENTRYPOINT_NOT_FOUND",
    0xC000013A: "CONTROL_C_EXIT",
    0xC0000142: "DLL_INIT_FAILED",
    0xC0000194: "POSSIBLE_DEADLOCK",
    0xC0000374: "HEAP_CORRUPTION",
    0xC0000409: "STACK_BUFFER_OVERRUN",
    0xC000041D: "FATAL_USER_CALLBACK_EXCEPTION",
    0xC0000420: "ASSERTION_FAILURE",
    0xC0000602: "FAIL_FAST_EXCEPTION",
    0xE0000008: "OUT_OF_MEMORY",
    0xE06D7363: "CPP_EXCEPTION",
    0xE0434352: "CLR_EXCEPTION",
    0x0517A7ED: "SIMULATED",
}

_LINUX: Final = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    10: "SIGUSR1",
    11: "SIGSEGV",
    12: "SIGUSR2",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
    16: "SIGSTKFLT",
    24: "SIGXCPU",
    25: "SIGXFSZ",
    31: "SIGSYS",
    0xFFFFFFFF: "DUMP_REQUESTED",
}

_MACOS: Final = {
    1: "EXC_BAD_ACCESS",
    2: "EXC_BAD_INSTRUCTION",
    3: "EXC_ARITHMETIC",
    4: "EXC_EMULATION",
    5: "EXC_SOFTWARE",
    6: "EXC_BREAKPOINT",
    7: "EXC_SYSCALL",
    8: "EXC_MACH_SYSCALL",
    9: "EXC_RPC_ALERT",
    10: "EXC_CRASH",
    11: "EXC_RESOURCE",
    12: "EXC_GUARD",
    13: "EXC_CORPSE_NOTIFY",
    0x43507378: "SIMULATED",
}

_NAMES: Final[Mapping[str, Mapping[int, str]]] = {
    "Windows": _WINDOWS,
    "Linux": _LINUX,
    "Android": _LINUX,
    "macOS": _MACOS,
    "iOS": _MACOS,
}

_OF_MEMORY: Final = ("ACCESS_VIOLATION", "IN_PAGE_ERROR")
_ACCESSES: Final = {0: "READ", 1: "WRITE", 8: "EXEC"}
"""What a program tried to do with memory, by the first parameter of such an exception."""


def name_of(exception: ExceptionInfo, system: str) -> str:
    """
    Return the name of an exception, as in C{"ACCESS_VIOLATION_READ"} or C{"SIGSEGV"}; empty if there is none.

    @param system: where it happened: a name of L{collectord.minidump.dump.SYSTEMS}.
    """
    name = _NAMES.get(system, {}).get(exception.code, "")
    if name in _OF_MEMORY and exception.parameters:
        access = _ACCESSES.get(exception.parameters[0])
        return f"{name}_{access}" if access else name
    return name
