"""
The connection pool of the HTTP destination, as one request uses it.
"""

from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.web import client

from collectord.net.twisted_private import is_unfinished


@define
class Lease:
    """
    A lease is the connection pool as one request uses it, as a context manager.

    When it ends, the connection is back in the pool or is closed. If the answer comes before the request was sent
    completely, Twisted would go on sending, so the connection is closed in this case, too.
    """

    _pool: client.HTTPConnectionPool
    _aborted: WeakSet[Any]
    persistent: bool = True
    _connection: Any = field(default=None, init=False)

    def getConnection(self, key: Any, endpoint: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._get(key, endpoint))

    async def _get(self, key: Any, endpoint: Any) -> Any:
        # Twisted puts a connection that was aborted back into the pool if it had all of the answer by then.
        while (connection := await self._pool.getConnection(key, endpoint)) in self._aborted:
            pass
        self._connection = connection
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._connection is not None and is_unfinished(self._connection):
            self._aborted.add(self._connection)
            self._connection.transport.abortConnection()
