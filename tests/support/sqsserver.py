"""
An SQS server that a test owns: moto. What it holds goes with its process, but that it has got it is noted in a file.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from attrs import define, field

from tests.support.daemon import free_port
from tests.support.server import Server

_SERVE = """
import sys
from moto.server import main
from moto.sqs.models import Queue
for name in ("", "_delayed", "_not_visible"):
    setattr(Queue, f"approximate_number_of_messages{name}", 0)
add_message = Queue.add_message
noted = open(sys.argv[1], "a", buffering=1)
def add_and_note(self, message):
    add_message(self, message)
    noted.write(message.body + chr(10))
Queue.add_message = add_and_note
main(sys.argv[2:])
"""
"""
Without this moto counts the messages of the queue for each that comes, three times. It notes each message before it
answers.
"""


@define
class SqsServer(Server):
    """It lets everybody in."""

    port: int = field(factory=free_port)

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", _SERVE, str(self._notes), "-H", "127.0.0.1", "-p", str(self.port)]

    @property
    def _notes(self) -> Path:
        return self.log.with_name("messages")

    def got(self) -> list[str]:
        """All messages that it has got, in all its lives."""
        return self._notes.read_text().splitlines()

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
