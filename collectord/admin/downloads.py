"""
Sends dumps to a browser piece by piece, no faster than it reads them.
"""

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from collectord.errors import StorageError
from collectord.model import Content

_log = Logger()


@frozen
class DumpToSend:
    """
    One dump that is in a store.

    @ivar size: in bytes.
    """

    size: int
    content: Content


@implementer(IPushProducer)
class _Room:
    """Tells when the client has read enough for the next piece."""

    def __init__(self) -> None:
        self._waiting: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        if self._waiting is None:
            self._waiting = Deferred()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """The client is gone. Nothing is to be done here, since Klein cancels the answer."""

    async def wait(self) -> None:
        """Wait until there is room."""
        if self._waiting is not None:
            await self._waiting


async def send(request: Request, dump: DumpToSend, filename: str) -> None:
    """
    Answer C{request} with a dump. If it can't be read to its end the connection is cut off, so that a part of it never
    looks like the whole.

    @param filename: of ASCII letters, digits and C{-._}.
    """
    request.setHeader(b"content-type", b"application/octet-stream")
    request.setHeader(b"content-length", b"%d" % dump.size)
    request.setHeader(b"content-disposition", f'attachment; filename="{filename}"'.encode("ascii"))
    room = _Room()
    request.registerProducer(room, True)
    try:
        async for piece in dump.content.chunks():
            request.write(piece)
            await room.wait()
    except StorageError as e:
        _log.error("a dump that is being downloaded can't be read to its end: {why}", why=e)
        transport: Any = request.channel.transport
        transport.abortConnection()
        await Deferred[None]()  # Klein cancels this when the connection is gone.
    request.unregisterProducer()
