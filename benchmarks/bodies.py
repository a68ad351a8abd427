"""
Crash reports as a Crashpad-like client sends them, and wrk's script to send them. They are all alike but for a serial
number, since a collector may know a report that comes twice.
"""

import gzip
import json
import random
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from attrs import field, frozen

from tests.support.minidumps import MadeMinidump, MadeModule

KIB = 1024

_SEED = 20160622
_BOUNDARY = "---MultipartBoundary-hJ3fQ0kzT7yXn2LwVb5RcAeGdUo1MsPi---"
_ANNOTATIONS = {
    "ProductName": "Firefox",
    "Version": "128.0",
    "BuildID": "20240704121409",
    "ReleaseChannel": "release",
    "Vendor": "Mozilla",
    "CrashTime": "1719930000",
    "StartupTime": "1719920000",
    "ProcessType": "content",
    "guid": "6f3f5bd2-54a0-4e53-8fd8-2f0d8f6f8a0e",
    "CrashAddress": "0x00007ff6a3b41c20",
    "TelemetryEnvironment": json.dumps({"build": {"architecture": "x86-64"}, "system": {"memoryMB": 16384}}),
}

_SERIAL = (
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="Serial"\r\n\r\n',
    "\r\n",
)
"""What is around the 32 digits of a serial number, with which each report begins."""

_SCRIPT = """\
local file = assert(io.open({path}, "rb"))
local rest = file:read("*a")
file:close()
wrk.method = "POST"
wrk.path = "/submit"
{headers}

local function little_endian(number, size)
   local bytes = {{}}
   for n = 1, size do
      bytes[n] = string.char(bit.band(bit.rshift(number, 8 * (n - 1)), 255))
   end
   return table.concat(bytes)
end

local function crc32(text)
   local crc = -1
   for n = 1, #text do
      crc = bit.bxor(crc, text:byte(n))
      for _ = 1, 8 do
         crc = bit.bxor(bit.rshift(crc, 1), bit.band(0xEDB88320, -bit.band(crc, 1)))
      end
   end
   return bit.bnot(crc)
end

-- A gzip member with the text as it is.
local function stored(text)
   return "\\31\\139\\8\\0\\0\\0\\0\\0\\0\\255\\1" .. little_endian(#text, 2) .. little_endian(65535 - #text, 2) ..
      text .. little_endian(crc32(text), 4) .. little_endian(#text, 4)
end

-- By the time alone, two runs in one second could send the same report.
local run = assert(io.open("/dev/urandom", "rb")):read(8):gsub(".", function(byte)
   return string.format("%02x", byte:byte())
end)
local sent = 0

function request()
   sent = sent + 1
   local first = {before} .. run .. string.format("%016x", sent) .. {after}
   return wrk.format(nil, nil, nil, ({first}) .. rest)
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      'RESULT {{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, ' ..
      '"errors": {{"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}}}\\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      e.connect, e.read, e.write, e.status, e.timeout))
end
"""


@frozen(kw_only=True)
class Body:
    """
    Reports of one size, ready to send.

    @ivar name: C{"10k"}, C{"400k"}, C{"400k-gzip"} or C{"5m"}: the size unpacked.
    @ivar rest: what they have in common, after the serial number.
    @ivar headers: those that describe the content, without its length.
    """

    name: str
    rest: bytes = field(repr=False)
    headers: Mapping[str, str]

    @property
    def is_compressed(self) -> bool:
        return "Content-Encoding" in self.headers

    def new(self) -> bytes:
        """The content of a report with a serial number of its own; all are of the same length."""
        first = uuid4().hex.join(_SERIAL).encode()
        return (gzip.compress(first, 0, mtime=0) if self.is_compressed else first) + self.rest


def minidump(size: int) -> bytes:
    """
    A minidump of C{size} bytes that can be read, of a program with some libraries. Gzip can save about half of it: the
    memory in it is pages of noise and pages of one repeated pattern in turn.
    """
    chance = random.Random(_SEED)
    pattern = chance.randbytes(16) * (512 // 16)
    page = 2 * len(pattern)
    pages = [chance.randbytes(len(pattern)) + pattern for _ in range(size // page + 1)]
    return (_crash(1 if size < 50 * KIB else 12).write() + b"".join(pages))[:size]


def _crash(many: int) -> MadeMinidump:
    """
    The crash of a program.

    @param many: 4 libraries and 2 threads for each of these.
    """
    modules = [
        MadeModule(0x7F00_0000_0000 + (number << 24), 0x80_0000, f"/opt/app/lib{number}.so.1", bytes([number, 1] * 8))
        for number in range(4 * many)
    ]
    pointers = [0, 7, 0x7FFD_0000_2000, modules[0].base, modules[1].base + 0x1_2340, 2**63]
    return MadeMinidump(
        modules=modules,
        instruction=modules[2].base + 0x1234,
        stack=[*pointers * 5, modules[2].base + 0x5671, *pointers * 10, modules[3].base + 0x1239, *pointers],
        threads=2 * many,
    )


def multipart(size: int) -> bytes:
    """A form of C{size} bytes in all, but for its beginning: the annotations, then the minidump."""
    head = "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in _ANNOTATIONS.items()
    )
    head += (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="upload_file_minidump"; filename="minidump.dmp"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = f"\r\n--{_BOUNDARY}--\r\n"
    size -= len("".join(_SERIAL)) + 32
    return head.encode() + minidump(size - len(head) - len(tail)) + tail.encode()


def make_body(name: str) -> Body:
    """
    The reports of that name.

    @raise KeyError: there are no such reports.
    """
    size, compressed = SIZES[name]
    rest = multipart(size)
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    if compressed:
        rest = gzip.compress(rest, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Body(name=name, rest=rest, headers=headers)


SIZES: Mapping[str, tuple[int, bool]] = {
    "10k": (10 * KIB, False),
    "400k": (400 * KIB, False),
    "400k-gzip": (400 * KIB, True),
    "5m": (5 * KIB * KIB, False),
}
"""Name to bytes unpacked, and whether they are sent as gzip."""


def write_script(body: Body, directory: Path) -> Path:
    """wrk's Lua script that posts C{body} to C{/submit} and prints what it saw as one C{RESULT} line of JSON."""
    rest = directory / f"{body.name}.body"
    rest.write_bytes(body.rest)
    headers = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(text)}" for name, text in body.headers.items())
    script = directory / f"{body.name}.lua"
    before, after = map(json.dumps, _SERIAL)
    first = "stored(first)" if body.is_compressed else "first"
    text = _SCRIPT.format(path=json.dumps(str(rest)), headers=headers, before=before, after=after, first=first)
    script.write_text(text)
    return script
