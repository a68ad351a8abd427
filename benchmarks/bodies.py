"""
Crash reports as a Crashpad-like client sends them, the same bytes every time, and wrk's script to send them.
"""

import gzip
import json
import random
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

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

_SCRIPT = """\
local file = assert(io.open({path}, "rb"))
wrk.method = "POST"
wrk.path = "/submit"
wrk.body = file:read("*a")
file:close()
{headers}

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
    One report, ready to send.

    @ivar name: C{"10k"}, C{"400k"}, C{"400k-gzip"} or C{"5m"}: the size unpacked.
    @ivar headers: those that describe the content, without its length.
    """

    name: str
    content: bytes = field(repr=False)
    headers: Mapping[str, str]

    @property
    def is_compressed(self) -> bool:
        return "Content-Encoding" in self.headers


def minidump(size: int) -> bytes:
    """C{size} bytes of which gzip can save about half: pages of noise and pages of one repeated pattern in turn."""
    chance = random.Random(_SEED)
    pattern = chance.randbytes(16) * (512 // 16)
    page = 2 * len(pattern)
    pages = [chance.randbytes(len(pattern)) + pattern for _ in range(size // page + 1)]
    content = bytearray(b"".join(pages)[:size])
    content[:4] = b"MDMP"
    return bytes(content)


def multipart(size: int) -> bytes:
    """A form of C{size} bytes in all: the annotations, then the minidump."""
    head = "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in _ANNOTATIONS.items()
    )
    head += (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="upload_file_minidump"; filename="minidump.dmp"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = f"\r\n--{_BOUNDARY}--\r\n"
    return head.encode() + minidump(size - len(head) - len(tail)) + tail.encode()


def make_body(name: str) -> Body:
    """
    The report of that name.

    @raise KeyError: there is no such report.
    """
    size, compressed = SIZES[name]
    content = multipart(size)
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    if compressed:
        content = gzip.compress(content, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Body(name=name, content=content, headers=headers)


SIZES: Mapping[str, tuple[int, bool]] = {
    "10k": (10 * KIB, False),
    "400k": (400 * KIB, False),
    "400k-gzip": (400 * KIB, True),
    "5m": (5 * KIB * KIB, False),
}
"""Name to bytes unpacked, and whether they are sent as gzip."""


def write_script(body: Body, directory: Path) -> Path:
    """wrk's Lua script that posts C{body} to C{/submit} and prints what it saw as one C{RESULT} line of JSON."""
    content = directory / f"{body.name}.body"
    content.write_bytes(body.content)
    headers = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(text)}" for name, text in body.headers.items())
    script = directory / f"{body.name}.lua"
    script.write_text(_SCRIPT.format(path=json.dumps(str(content)), headers=headers))
    return script
