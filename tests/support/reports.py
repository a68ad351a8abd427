"""
Reports that a test makes up, and finds again on disk: a report's content follows from its serial.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from attrs import field, frozen

from collectord.crashid import is_crash_id
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.support.http import Part, multipart
from tests.support.response import Response

BOUNDARY = "xyzzy"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

_ANSWER = re.compile(rb"CrashID=bp-(\S+)\n")


@frozen
class Report:
    """What a client sends; the dumps are C{upload_file_minidump}, C{extra_1}, C{extra_2} …"""

    annotations: Mapping[str, str]
    dumps: Mapping[str, bytes] = field(repr=False)

    def body(self) -> bytes:
        """Multipart, by L{HEADERS}."""
        parts = [Part(name, value.encode()) for name, value in self.annotations.items()]
        parts += [Part(name, dump, f"{name}.dmp", "application/octet-stream") for name, dump in self.dumps.items()]
        return multipart(parts, BOUNDARY)


def make_report(serial: str, *sizes: int) -> Report:
    """
    @param serial: without spaces.
    @param sizes: of its dumps, in bytes.
    """
    said = " ".join([serial, *map(str, sizes)])
    chance = Random(said)
    names = ["upload_file_minidump", *(f"extra_{n}" for n in range(1, len(sizes)))]
    dumps = {name: b"MDMP" + chance.randbytes(size - 4) for name, size in zip(names, sizes, strict=False)}
    return Report({"ProductName": "Fenix", "Version": "1.0", "Serial": said}, dumps)


def crash_id_in(answer: Response | tuple[int, bytes]) -> str:
    """The crash id that was acknowledged; an C{AssertionError} where none was."""
    status, body = (answer.status, answer.body) if isinstance(answer, Response) else answer
    found = _ANSWER.fullmatch(body)
    assert (status, bool(found)) == (200, True), answer
    assert found is not None
    crash_id = found[1].decode()
    assert is_crash_id(crash_id), crash_id
    return crash_id


def is_whole(crash: StoredCrash) -> bool:
    """Whether a crash of L{make_report} is, to the byte, what its serial says."""
    serial, *sizes = str(crash.raw_crash.get("Serial")).split()
    report = make_report(serial, *map(int, sizes))
    return crash.dumps == report.dumps and report.annotations.items() <= crash.raw_crash.items()


def harm(acknowledged: Mapping[str, str], *roots: Path) -> Iterator[str]:
    """
    What is wrong with the stores at rest: each acknowledged crash has to be in one of them, and all are whole.

    @param acknowledged: the serial annotation of each crash id.
    """
    missing = dict(acknowledged)
    for root in roots:
        yield from (f"{root.name}: {problem}" for problem in problems(root))
        for crash_id, crash in stored_crashes(root).items():
            if not is_whole(crash):
                yield f"{root.name}: {crash_id} is not what was sent"
            serial = missing.pop(crash_id, crash.raw_crash["Serial"])
            if serial != crash.raw_crash["Serial"]:
                yield f"{root.name}: {crash_id} is another one's"
    yield from (f"{crash_id} was acknowledged and is lost" for crash_id in missing)
