"""
The connections to Redis: made from a URL, by way of Sentinels too, and all dropped after any error.
"""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

from attrs import define, field
from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from collectord.publish.tls import tls_error_in_words

T = TypeVar("T")

_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_SENTINEL_SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_SENTINEL_PORT = 26379
_OF_SENTINELS = "sentinel_"
"""Begins the names in the query of a URL that are about the connections to Sentinels, such as C{sentinel_password}."""


def is_sentinel_url(url: str) -> bool:
    """Tell whether C{url} names Sentinels, which are asked for the server."""
    return url.partition("://")[0] in _SENTINEL_SCHEMES


def hosts_of(url: str) -> str:
    """Return the hosts and ports in C{url}, or the path of the socket, without the user and password."""
    place = url.partition("://")[2].partition("?")[0].rpartition("@")[2]
    return place.partition("/")[0] or place


def make_client(url: str, options: Mapping[str, Any]) -> Redis:
    """
    Make a client, which connects to nothing yet.

    @param url: C{redis://}, C{rediss://} or C{unix://} as the library reads them; or
        C{redis+sentinel://user:password@host:port,host:port/service/db} (with TLS: C{rediss+sentinel}).
    @param options: of all connections, as the library names them.

    @raise ValueError: C{url} can't be understood. Other errors may be raised, too; each may quote a part of it.
    """
    if is_sentinel_url(url):
        return _by_sentinels(url, options)
    parts = urlsplit(url)
    if parts.scheme != "unix":
        _refuse_no_number(parts.path.removeprefix("/"))  # the library would use number 0
    return Redis.from_url(url, **options)


def _by_sentinels(url: str, options: Mapping[str, Any]) -> Redis:
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.removeprefix("/").partition("/")
    if not service or not hosts:
        raise ValueError("there is no host, or no name of a service")
    _refuse_no_number(database)
    found = parse_url(f"{_SENTINEL_SCHEMES[parts.scheme]}://{user}{at}sentinel/{database or 0}?{parts.query}")
    del found["host"]
    if found.pop("connection_class", None) is not None:
        found["ssl"] = True
    of_sentinels = {
        name.removeprefix(_OF_SENTINELS): found.pop(name) for name in list(found) if name.startswith(_OF_SENTINELS)
    }
    to_server = {**options, **found}
    addresses = [_address(host) for host in hosts.split(",")]
    to_sentinels = {name: value for name, value in to_server.items() if name.startswith(("socket_", "ssl", "protocol"))}
    # All that hang together may take no longer than one server. The client of one would also try again, with pauses.
    to_sentinels |= {name: to_sentinels[name] / len(addresses) for name in _TIMEOUTS if name in to_sentinels}
    manager = _Sentinels(addresses, sentinel_kwargs={**to_sentinels, **of_sentinels, "retry": Retry(NoBackoff(), 0)})
    client: Redis = manager.master_for(service, **to_server)
    return client


def _refuse_no_number(database: str) -> None:
    if database and not database.isdigit():
        raise ValueError("the database is no number")


def refusal_in_words(error: Exception) -> str:
    """Say what is wrong if a server or a Sentinel lets this client not in; empty: it is something else."""
    if "HELLO must be called" in str(error):
        return "it asks for a password, and the url has none for it"
    if isinstance(error, AuthenticationError):
        return f"it refuses the user or the password ({error})"
    return tls_error_in_words(error)


class _Sentinels(Sentinel):
    """Sentinels that are asked one after the other. The library's own would tell of an error with all their options."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        problems = []
        for sentinel in self.sentinels:
            options = sentinel.connection_pool.connection_kwargs
            where = f"{options['host']}:{options['port']}"
            try:
                known: Any = sentinel.sentinel_masters()
            except RedisError as e:
                problems.append(f"{where}: {refusal_in_words(e) or e}")
                continue
            state = known.get(service_name)
            if state and self.check_master_state(state, service_name):
                return state["ip"], state["port"]
            problems.append(f"{where}: {'its server is down' if state else f'knows no service {service_name!r}'}")
        raise MasterNotFoundError(f"no Sentinel names a server: {'; '.join(problems)}")


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is empty")
    return parts.hostname, parts.port or _SENTINEL_PORT


@define(eq=False)
class RedisConnections:
    """
    The connections to Redis of one publisher, for any thread.

    After any error all of them are dropped. A server that was demoted keeps its connections, and answers each command
    on them that it takes no writes; a new connection leads to the server that takes them now.

    @ivar make: makes a client.
    """

    make: Callable[[], Redis]
    _lock: Lock = field(factory=Lock, init=False)
    _client: Redis | None = field(default=None, init=False)

    def use(self, work: Callable[[Redis], T]) -> T:
        """Return what C{work} returns of a client. It blocks."""
        with self._lock:
            client = self._client = self._client or self.make()
        try:
            return work(client)
        except Exception:  # as of the check, which finds that it is a replica
            with self._lock:
                if self._client is client:
                    self._client = None
            raise
        finally:
            if self._client is not client:  # an error of this work, or of other work meanwhile
                _close(client, in_use=False)

    def close(self) -> None:
        """Drop all connections, also those in use."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            _close(client, in_use=True)


def _close(client: Redis, *, in_use: bool) -> None:
    pool = client.connection_pool
    pool.disconnect(inuse_connections=in_use)
    manager: Sentinel | None = getattr(pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        sentinel.connection_pool.disconnect(inuse_connections=in_use)
