"""
The HTTP server of the admin port. It is Twisted's own, since that of the submission port can't stream an answer.
"""

from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from collectord.concurrency.descriptors import share

_IDLE_S = 60.0
_SHARE = 8
"""Of all open files that the process may have, one in so many may be a connection here: crashes need the others."""
_MOST = 256
"""The most connections, however many files may be open."""


class AdminRequest(Request):
    """A request to the admin port."""

    def getRequestHostname(self) -> bytes:
        """Return a fixed name. Klein fails if there is none, and no route depends on it."""
        return b"localhost"


class AdminChannel(HTTPChannel):
    """A connection of the admin port: plain HTTP/1, whose transport the feed can abort if its client reads nothing."""

    factory: "AdminServer"

    def connectionMade(self) -> None:
        """A client has connected."""
        super().connectionMade()
        self.factory.connected(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The client has gone."""
        self.factory.disconnected(self)
        super().connectionLost(reason)


class AdminServer(Site):
    """
    Makes the connections of the admin port: plain HTTP/1, no access log, no request bodies. If there are too many, the
    oldest is cut off.
    """

    noisy = False
    displayTracebacks = False

    def __init__(self, resource: IResource, clock: IReactorTime) -> None:
        super().__init__(
            resource, requestFactory=AdminRequest, parsePOSTFormSubmission=False, timeout=_IDLE_S, reactor=clock
        )
        self._most = share(_SHARE, _MOST)
        self._channels: dict[AdminChannel, None] = {}  # the oldest first

    def protocol(self) -> AdminChannel:  # type: ignore[override]
        """Make a connection without Twisted's wrapper for HTTP/2."""
        return AdminChannel()

    def connected(self, channel: AdminChannel) -> None:
        """A client has connected, which may cost the oldest one its connection."""
        self._channels[channel] = None
        if len(self._channels) > self._most:
            oldest = next(iter(self._channels))
            del self._channels[oldest]
            transport: Any = oldest.transport  # what no interface of Twisted says: all transports have it
            transport.abortConnection()

    def disconnected(self, channel: AdminChannel) -> None:
        """A client has gone."""
        self._channels.pop(channel, None)

    def getContentFile(self, length: int | None) -> BytesIO:
        """Return a file that throws the body of a request away, since no route here uses it."""
        return _Nowhere()

    def log(self, request: object) -> None:
        """Do nothing, so that there is no access log."""


class _Nowhere(BytesIO):
    def write(self, data: Any) -> int:
        return len(data)
