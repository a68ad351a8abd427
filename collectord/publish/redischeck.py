"""
Whether a Redis server would take an id now, and what it can't promise about those that it took.

All of it blocks.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from collectord.errors import PublishError

_NO_ID = "0-0"
"""An id of an entry that no server takes: it refuses such an XADD last, after all other reasons to refuse one."""
_ITS_REFUSAL = "must be greater than 0-0"


def refuse_unwritable(client: Redis, stream: str) -> None:
    """
    Try whether C{stream} takes entries, without adding one.

    @raise PublishError: the server is a replica or a Sentinel.
    @raise RedisError: it would refuse the entry, or does not answer.
    """
    role, *about = _role(client)
    if role == "slave":
        host, port, state, *_ = about
        raise PublishError(f"is a replica of {host}:{port}, which takes no writes (its state: {state})")
    if role == "sentinel":
        raise PublishError("is a Sentinel; the url has to be redis+sentinel://host:port/service")
    try:
        client.execute_command("XADD", stream, _NO_ID, "check", "")
    except ResponseError as e:
        if _ITS_REFUSAL not in str(e):
            raise


def _role(client: Redis) -> Sequence[str]:
    """Return the answer to C{ROLE}; C{["unknown"]} of a user who may not ask, or of a proxy that can't be asked."""
    try:
        answer: Any = client.execute_command("ROLE")
    except NoPermissionError:
        return ["unknown"]
    except ResponseError as e:
        if "unknown command" not in str(e).lower():
            raise
        return ["unknown"]
    return [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in answer]


def cautions_about(client: Redis) -> Iterator[str]:
    """
    Yield what this server can't promise, in sentences, as far as it lets its user know.

    @raise RedisError: it does not answer.
    """
    with suppress(ResponseError):  # of a user who may not ask, or of a server without this command
        memory: Any = client.info("memory")
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            yield f"Redis may drop ids when its memory is full: its maxmemory-policy is {policy}, not noeviction."
    with suppress(ResponseError):
        persistence: Any = client.info("persistence")
        if persistence.get("aof_enabled", 1) == 0:
            yield _without_append_only_file(client)


def _without_append_only_file(client: Redis) -> str:
    saves: str | None = None
    with suppress(ResponseError):
        configured: Any = client.config_get("save")
        saves = configured.get("save")
    if saves == "":
        return "Redis keeps nothing on disk: when it ends, all ids in it are lost. It should have appendonly yes."
    return "Redis saves to disk only now and then: a crash of it loses the ids since. It should have appendonly yes."
