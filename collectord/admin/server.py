"""
The server below the admin site: Twisted's own, since that of the submissions keeps an answer until it is complete.
"""

from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

_IDLE_S = 60.0


class AdminRequest(Request):
    """One request."""

    def getRequestHostname(self) -> bytes:
        """Klein asks, and fails without one; no route depends on it."""
        return b"localhost"


class AdminServer(Site):
    """The factory of connections."""

    noisy = False
    displayTracebacks = False

    def __init__(self, resource: IResource, clock: IReactorTime) -> None:
        super().__init__(
            resource, requestFactory=AdminRequest, parsePOSTFormSubmission=False, timeout=_IDLE_S, reactor=clock
        )

    def protocol(self) -> HTTPChannel:  # type: ignore[override]
        """Plain HTTP/1: what an event stream can't be sent to is aborted by its transport."""
        return HTTPChannel()

    def getContentFile(self, length: int | None) -> BytesIO:
        """No request here has a use for a body."""
        return _Nowhere()

    def log(self, request: object) -> None:
        """No access log."""


class _Nowhere(BytesIO):
    def write(self, data: Any) -> int:
        return len(data)
