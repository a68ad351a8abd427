"""
The baseline: a crash collector written with Klein as it comes.

The report is read into C{request.content} and parsed by C{twisted.web} before the handler runs; the minidump is then
written to a file, in the reactor's thread, with no sync. Nothing is logged.

    python plain_klein.py PORT DIRECTORY
"""

import sys
from pathlib import Path
from uuid import uuid4

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import react
from twisted.web.server import Request, Site


class PlainCollector:
    """Takes a crash, and keeps its minidump."""

    app = Klein()

    def __init__(self, root: Path) -> None:
        self.root = root

    @app.route("/submit", methods=["POST"])
    def submit(self, request: Request) -> str:
        crash_id = str(uuid4())
        (self.root / f"{crash_id}.dump").write_bytes(request.args[b"upload_file_minidump"][0])
        request.setHeader("Content-Type", "text/plain")
        return f"CrashID=bp-{crash_id}\n"

    @app.route("/__lbheartbeat__")
    def heartbeat(self, request: Request) -> str:
        return ""


def serve(reactor: IReactorTCP, port: str, root: str) -> Deferred[None]:
    """Serve until the process is told to stop."""
    endpoint = TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1")
    endpoint.listen(Site(PlainCollector(Path(root)).app.resource()))
    return Deferred()


if __name__ == "__main__":
    react(serve, sys.argv[1:])
