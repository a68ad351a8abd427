"""
Asks an S3 server once more about an object that it has stored, if its answer has proved nothing.
"""

from contextlib import suppress

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
