"""
Real queues that a test owns: RabbitMQ and Redis, from Debian, on ports of their own. Each keeps what it has confirmed.
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pika
from attrs import define, field
from redis import Redis
from redis.exceptions import RedisError

from tests.support.certificates import Authority
from tests.support.daemon import free_port
from tests.support.server import Server

_USER = "rabbitmq"


@define
class RedisServer(Server):
    """
    Redis.

    @ivar options: more of the command's; by default it keeps what it has confirmed.
    @ivar config: a file with settings.
    @ivar tls_port: where it speaks TLS, if the options set that up.
    """

    port: int = field(factory=free_port)
    options: Sequence[str] = ("--appendonly", "yes", "--appendfsync", "always")
    tls_port: int = field(factory=free_port)
    config: Path | None = None

    def command(self) -> Sequence[str]:
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.log.parent)]
        return ["redis-server", *([str(self.config)] if self.config else []), *where, *self.options]

    def answers(self) -> bool:
        return self.answer("PING") is not None

    def answer(self, *command: str) -> Any:
        """What it answers to a command; None: nothing."""
        try:
            with Redis(port=self.port, socket_timeout=1, decode_responses=True) as client:
                return client.execute_command(*command)
        except RedisError:
            return None

    def with_tls(self, authority: Authority, certificate: Path, *, asks: bool = False) -> None:
        """Set TLS up. @param asks: clients have to show a certificate."""
        files = ["--tls-ca-cert-file", str(authority.file), "--tls-cert-file", str(certificate)]
        files += ["--tls-key-file", str(certificate), "--tls-auth-clients", "yes" if asks else "no"]
        self.options = [*self.options, "--tls-port", str(self.tls_port), *files]


@define
class SentinelServer(RedisServer):
    """
    A Sentinel of Redis, which knows one service, C{crashes}.

    @ivar master: the port of the server that takes writes at first.
    """

    master: int = field(kw_only=True)

    def command(self) -> Sequence[str]:
        config = self.log.with_name("sentinel.conf")
        if not config.exists():
            config.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.log.parent}\n"
                f"sentinel monitor crashes 127.0.0.1 {self.master} 1\nsentinel down-after-milliseconds crashes 500\n"
                "sentinel failover-timeout crashes 3000\n"
            )
        return ["redis-sentinel", str(config)]


@define
class RabbitServer(Server):
    """
    RabbitMQ, in the directory of its log; its user and password are C{crash} and C{secret}. C{writer}, with the same
    password, may publish, and make nothing.

    @ivar tls_port: where it wants to see a certificate of C{authority}, which has also signed its own.
    """

    port: int = field(factory=free_port)
    tls_port: int = field(factory=free_port)
    authority: Authority = field(init=False)
    _dist: int = field(factory=free_port, init=False)
    _epmd: int = field(factory=free_port, init=False)

    def __attrs_post_init__(self) -> None:
        directory = self.log.parent
        for name in ("mnesia", "log", "home"):
            (directory / name).mkdir()
        self.authority = Authority.make(directory)
        own = self.authority.sign()
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlisteners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.cacertfile = {self.authority.file}\n"
            f"ssl_options.certfile = {own}\nssl_options.keyfile = {own}\n"
            "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
            f"load_definitions = {directory}/definitions.json\n"
        )
        (directory / "definitions.json").write_text(json.dumps(_definitions()))
        cookie = directory / "home" / ".erlang.cookie"
        cookie.write_text("COLLECTORDTESTS")
        cookie.chmod(0o400)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{_USER}:", directory], check=True)

    def command(self) -> Sequence[str]:
        command = ["/usr/lib/rabbitmq/bin/rabbitmq-server"]
        if os.geteuid() != 0:
            return command
        return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", *command]

    def environment(self) -> Mapping[str, str]:
        directory = self.log.parent
        return {
            "HOME": str(directory / "home"),
            "RABBITMQ_NODENAME": f"crash{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        }

    def answers(self) -> bool:
        try:
            # It lets clients in before its queues work.
            connection = _connected(self.port)
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare("probe", durable=True)
            channel.basic_publish("", "probe", b"?", pika.BasicProperties(delivery_mode=2), mandatory=True)
            channel.queue_delete("probe")
            connection.close()
        except (OSError, pika.exceptions.AMQPError):
            return False
        return True


def _definitions() -> Mapping[str, Any]:
    salted = b"salt" + hashlib.sha256(b"saltsecret").digest()
    users = {"crash": ("administrator", ".*"), "writer": ("", "^$")}
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {"name": name, "password_hash": base64.b64encode(salted).decode(), "tags": tags}
            | {"hashing_algorithm": "rabbit_password_hashing_sha256"}
            for name, (tags, _) in users.items()
        ],
        "permissions": [
            {"user": name, "vhost": "/", "configure": configures, "write": ".*", "read": ".*"}
            for name, (_, configures) in users.items()
        ],
    }


@contextmanager
def rabbit_server() -> Iterator[RabbitServer]:
    """
    A running RabbitMQ. It runs as a user of its own, so its directory is not below those of pytest: each run of pytest
    closes them to other users.
    """
    directory = os.environ.get("PYTEST_DEBUG_TEMPROOT")
    with TemporaryDirectory(prefix="rabbitmq-", dir=directory) as path, RabbitServer(Path(path) / "output") as broker:
        yield broker


def missing(*tools: str) -> str:
    """Which of them are not here, in words; empty: none."""
    gone = [tool for tool in tools if shutil.which(tool) is None]
    return f"no {', '.join(gone)}" if gone else ""


def rabbitmq_url(port: int, user: str = "crash") -> str:
    return f"amqp://{user}:secret@127.0.0.1:{port}/"


def _connected(port: int) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(rabbitmq_url(port)))


def make_queue(port: int, queue: str, **arguments: Any) -> None:
    """A durable one. @param arguments: their names with C{_} for each C{-}."""
    connection = _connected(port)
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    connection.channel().queue_declare(queue, durable=True, arguments=named)
    connection.close()


def delete_queue(port: int, queue: str) -> None:
    """With all that is in it."""
    connection = _connected(port)
    connection.channel().queue_delete(queue)
    connection.close()


def taken_from(port: int, queue: str) -> list[tuple[str, int]]:
    """All messages of a queue, and their delivery modes; it is empty then."""
    found = []
    connection = _connected(port)
    channel = connection.channel()
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            break
        found.append((body.decode(), properties.delivery_mode))
    connection.close()
    return found
