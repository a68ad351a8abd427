"""
Writes the container in which Unreal Engine sends a report.
"""

import zlib
from collections.abc import Mapping


def container(files: Mapping[str, bytes], *, old: bool = False) -> bytes:
    """
    A container of these files, not compressed.

    @param old: as engines before 4.25 write it.
    """
    records = (_int(number) + _name(name) + _int(len(files[name])) + files[name] for number, name in enumerate(files))
    written = b"".join(records)
    header = _name("UECC-1") + _name("UECC-1.uecrash") + _int(len(written)) + _int(len(files))
    if old:
        return _name("") + _name("") + _int(0) + _int(0) + written + header
    return b"CR1" + header + written


def compressed(files: Mapping[str, bytes], *, old: bool = False) -> bytes:
    """What is sent: in zlib, which no header says."""
    return zlib.compress(container(files, old=old))


def context(properties: Mapping[str, str]) -> bytes:
    """A C{CrashContext.runtime-xml}."""
    elements = "".join(f"<{name}>{value}</{name}>" for name, value in properties.items())
    document = f"<FGenericCrashContext><RuntimeProperties>{elements}</RuntimeProperties></FGenericCrashContext>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{document}\n'.encode()


def _int(number: int) -> bytes:
    return number.to_bytes(4, "little", signed=True)


def _name(name: str) -> bytes:
    return _int(260) + name.encode().ljust(260, b"\0")
