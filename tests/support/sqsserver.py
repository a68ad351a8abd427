"""
An SQS server that a test owns: moto. What it holds goes with its process.
"""

import sys
from collections.abc import Sequence
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from attrs import define, field

from tests.support.daemon import free_port
from tests.support.server import Server

_UNCOUNTED = """
import sys
from moto.server import main
from moto.sqs.models import Queue
for name in ("", "_delayed", "_not_visible"):
    setattr(Queue, f"approximate_number_of_messages{name}", 0)
main(sys.argv[1:])
"""
"""Without this moto counts the messages of the queue for each that comes, three times."""


@define
class SqsServer(Server):
    """It lets everybody in."""

    port: int = field(factory=free_port)

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", _UNCOUNTED, "-H", "127.0.0.1", "-p", str(self.port)]

    def answers(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/moto-api/", timeout=5):
                return True
        except (URLError, OSError):
            return False

    def make(self, queue: str) -> str:
        """Make a queue, and return its URL."""
        fifo = {"FifoQueue": "true"} if queue.endswith(".fifo") else {}
        return str(self._client().create_queue(QueueName=queue, Attributes=fifo)["QueueUrl"])

    def taken_from(self, url: str) -> list[str]:
        """All messages of a queue, in their order; it is empty then."""
        client, found = self._client(), []
        while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            found += [message["Body"] for message in messages]
            taken = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
            client.delete_message_batch(QueueUrl=url, Entries=taken)
        return found

    def _client(self) -> Any:
        return boto3.session.Session().client(
            "sqs",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
