"""
Real queues that a test owns: RabbitMQ and Redis, from Debian, on ports of their own.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pika
from attrs import define, field
from redis import Redis
from redis.exceptions import RedisError

from tests.support.daemon import free_port
from tests.support.wait import until

_USER = "rabbitmq"


@define
class Broker:
    """
    A process that is started, killed, stopped for a while, and started again on what it has kept.

    @ivar answers: whether it can be used.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    port: int
    answers: Callable[[int], bool]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        with (self.directory / "output").open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=dict(os.environ) | dict(self.env),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: self.answers(self.port), 60)

    def signal(self, number: int) -> None:
        """To it and its children."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait(20)
            self._process = None
            time.sleep(0.2)


def missing(*tools: str) -> str:
    """Which of them are not here, in words; empty: none."""
    gone = [tool for tool in tools if shutil.which(tool) is None]
    return f"no {', '.join(gone)}" if gone else ""


def redis(directory: Path) -> Broker:
    """Redis, which keeps what it has confirmed."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    return Broker([*command, "--appendonly", "yes", "--appendfsync", "always"], {}, directory, port, _redis_answers)


def _redis_answers(port: int) -> bool:
    try:
        with Redis(port=port, socket_timeout=1) as client:
            return bool(client.ping())
    except RedisError:
        return False


def rabbitmq(directory: Path) -> Broker:
    """RabbitMQ; its user and password are C{crash} and C{secret}."""
    port, dist, epmd = free_port(), free_port(), free_port()
    for name in ("mnesia", "log", "home"):
        (directory / name).mkdir()
    config = directory / "rabbitmq.conf"
    config.write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\ndefault_user = crash\ndefault_pass = secret\n")
    cookie = directory / "home" / ".erlang.cookie"
    cookie.write_text("COLLECTORDTESTS")
    cookie.chmod(0o400)
    env = {
        "HOME": str(directory / "home"),
        "RABBITMQ_NODENAME": f"crash{port}@localhost",
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_DIST_PORT": str(dist),
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
    }
    command = ["/usr/lib/rabbitmq/bin/rabbitmq-server"]
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{_USER}:", directory], check=True)
        for parent in directory.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
        command = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", *command]
    return Broker(command, env, directory, port, _rabbitmq_answers)


def rabbitmq_url(port: int) -> str:
    return f"amqp://crash:secret@127.0.0.1:{port}/"


def _rabbitmq_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            pass
        # It lets clients in before its queues work.
        connection = _connected(port)
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("probe", durable=True)
        channel.basic_publish("", "probe", b"?", pika.BasicProperties(delivery_mode=2), mandatory=True)
        channel.queue_delete("probe")
        connection.close()
    except (OSError, pika.exceptions.AMQPError):
        return False
    return True


def _connected(port: int) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(rabbitmq_url(port)))


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
