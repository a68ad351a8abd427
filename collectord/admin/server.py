"""
The HTTP server of the admin port. It is Twisted's own, since that of the submission port can't stream an answer.
"""

from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

_IDLE_S = 60.0


class AdminRequest(Request):
    """A request to the admin port."""

    def getRequestHostname(self) -> bytes:
        """Return a fixed name. Klein fails if there is none, and no route depends on it."""
        return b"localhost"


class AdminServer(Site):
    """Makes the connections of the admin port: plain HTTP/1, no access log, no request bodies."""

    noisy = False
    displayTracebacks = False

    def __init__(self, resource: IResource, clock: IReactorTime) -> None:
        super().__init__(
            resource, requestFactory=AdminRequest, parsePOSTFormSubmission=False, timeout=_IDLE_S, reactor=clock
        )

    def protocol(self) -> HTTPChannel:  # type: ignore[override]
        """Make a connection of plain HTTP/1, whose transport the feed can abort if its client reads nothing."""
        return HTTPChannel()

    def getContentFile(self, length: int | None) -> BytesIO:
        """Return a file that throws the body of a request away, since no route here uses it."""
        return _Nowhere()

    def log(self, request: object) -> None:
        """Do nothing, so that there is no access log."""


class _Nowhere(BytesIO):
    def write(self, data: Any) -> int:
        return len(data)
