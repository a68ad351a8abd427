"""
Asks an S3 server once more about an object that it has stored, if its answer has proved nothing; and finds out whether
it compares checksums.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from threading import Lock

from collectord.storage.content import open_content
from collectord.storage.objects.attempts import ObjectBody
from collectord.storage.objects.bucket import Mismatch
from collectord.storage.objects.connections import Answer, NoAnswer
from collectord.storage.objects.keys import Item
from collectord.storage.objects.refusals import RefusedByServer
from collectord.storage.objects.s3claims import Expected, claim_in, compare_size, is_proven
from collectord.storage.objects.s3client import S3Client


def prove(client: S3Client, item: Item, answer: Answer, expected: Expected) -> None:
    """
    Return once it is known that C{item} was stored as it was sent.

    @param answer: to the request that has stored it.

    @raise Mismatch: it was stored as something else.
    @raise RefusedByServer: the answer proves nothing, and the server tells nothing else about the object.
    """
    if not is_proven(claim_in(answer), expected):
        look(client, item, expected)


def look(client: S3Client, item: Item, expected: Expected) -> None:
    """
    Compare all that the server says about C{item}, its size at least, with what it should be.

    @raise Mismatch: it is something else.
    @raise RefusedByServer: it is not there, or the server does not tell.
    """
    answer = client.request("HEAD", item.key, headers={"x-amz-checksum-mode": "ENABLED"})
    compare_size(answer, item.size)
    is_proven(claim_in(answer), expected)


def is_stored(client: S3Client, item: Item, expected: Expected) -> bool:
    """Tell whether C{item} is surely there, as it should be, without an error if it is not."""
    with suppress(NoAnswer, RefusedByServer, Mismatch):
        look(client, item, expected)
        return True
    return False


class Sha256Trust:
    """
    Whether the SHA-256 that a server says is enough, since it compares what it stores with the one that is sent. It may
    be used by several threads.

    @param ask: finds out whether it compares them, as L{compares_sha256} does. It blocks.
    @param unknown: the errors by which it says that nobody knows.
    @ivar is_earned: whether it is enough, as far as that is known.
    """

    def __init__(self, ask: Callable[[], bool], unknown: tuple[type[Exception], ...]) -> None:
        self._ask = ask
        self._unknown = unknown
        self._asked = Lock()  # it is never released
        self._compares = False
        self.is_earned = False

    def answered(self, *, with_sha256: bool) -> None:
        """
        Note whether the server has told the SHA-256 of an object.

        The first thread that was told one finds out whether the server compares them, and no other waits for that. It
        is done only once: where nothing answers to that, each try would take minutes.
        """
        if with_sha256 and self._asked.acquire(blocking=False):
            with suppress(*self._unknown):
                self._compares = self._ask()
        self.is_earned = with_sha256 and self._compares

    def lose(self) -> None:
        """Trust it no more: the server has refused what was sent with nothing else."""
        self._compares = self.is_earned = False


def compares_sha256(client: S3Client, item: Item, headers: Mapping[str, str]) -> bool:
    """
    Tell whether the server compares what it stores with the SHA-256 that comes with it. Some just repeat that.

    @param item: a small object that the bucket does not have, to be sent with the SHA-256 of something else.
    @param headers: that objects are stored with.

    @raise NoAnswer: nobody knows.
    """
    of_nothing = b64encode(sha256().digest()).decode()
    with open_content(item.content) as file:
        body = ObjectBody(file.read(), item.size, item.sha256)
    try:
        client.request("PUT", item.key, {}, {**headers, "x-amz-checksum-sha256": of_nothing}, body)
    except RefusedByServer as e:
        return e.answer.status == 400
    with suppress(NoAnswer, RefusedByServer):  # credentials that allow writing need not allow deleting
        client.request("DELETE", item.key)
    return False
