from hashlib import sha256

from collectord.fingerprints.hashing import VERSION
from collectord.fingerprints.runtimes import PATTERNS, is_runtime
from tests.support.cases import for_each

LISTED = {1: "e1f0623f7208061c"}
"""The SHA-256 of the list, by the version of fingerprints."""


def test_another_list_needs_another_version() -> None:
    assert sha256("\n".join(sorted(PATTERNS)).encode()).hexdigest()[:16] == LISTED[VERSION]


def test_the_list_is_in_order() -> None:
    assert all(pattern == pattern.lower() and "*" not in pattern[:-1] for pattern in PATTERNS)
    assert all(len(pattern) > 3 for pattern in PATTERNS if pattern.endswith("*"))


@for_each(
    "name",
    [
        *("ntdll.dll", "kernelbase.dll", "ucrtbase.dll", "vcruntime140_1.dll", "msvcp140.dll", "d3d11.dll"),
        *("libc.so.6", "libc-2.31.so", "ld-linux-x86-64.so.2", "libstdc++.so.6.0.30", "libglib-2.0.so.0"),
        *("libc.so", "libart.so", "linker64", "libsystem_kernel.dylib", "corefoundation", "libc++abi.dylib"),
    ],
)
def test_libraries_of_systems(name: str) -> None:
    assert is_runtime(name)


@for_each(
    "name",
    [
        *("xul.dll", "libxul.so", "xul", "firefox", "firefox.exe", "mozglue.dll", "chrome.dll", "chrome", "electron"),
        *("libcef.so", "libnode.so", "app", "crash_client", "libcurl.so.4", "libcrypto.so.3", "libmain.so", "", "l"),
    ],
)
def test_those_of_applications(name: str) -> None:
    assert not is_runtime(name)
