"""
A site without a network, and requests to it.
"""

from collections.abc import Callable

from attrs import define, field

from collectord.errors import TooLarge
from collectord.intake.request import StreamingRequest
from tests.unit.intake.wire import Client, Server, StubBody, StubResource, serve


@define
class Rig:
    """A site whose bodies take C{limit} bytes, and which has no use for bodies outside of C{/body}."""

    resource: StubResource
    server: Server
    bodies: list[StubBody] = field(factory=list)
    lengths: list[int | None] = field(factory=list)
    limit: int = 1_000_000

    def connect(self) -> Client:
        return self.server.connect()

    def body_for(self, request: StreamingRequest, length: int | None) -> StubBody | None:
        if request.path != b"/body":
            return None
        self.lengths.append(length)
        body = StubBody(limit=self.limit)
        if length is not None and length > self.limit:
            body.refusal = TooLarge()
        self.bodies.append(body)
        return body


NewRig = Callable[..., Rig]


def make_rig(**settings: float) -> Rig:
    resource = StubResource()
    rigs: list[Rig] = []
    server = serve(resource, lambda request, length: rigs[0].body_for(request, length), **settings)  # type: ignore[arg-type]
    rigs.append(Rig(resource, server))
    return rigs[0]


def post(body: bytes, *headers: bytes, path: bytes = b"/body", version: bytes = b"1.1") -> bytes:
    lines = [b"POST %s HTTP/%s" % (path, version), b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def chunked(*chunks: bytes, headers: bytes = b"") -> bytes:
    head = b"POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + headers + b"\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
