"""
Sends a large object to S3 in parts, of which one is in memory at a time.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from html import unescape
from typing import BinaryIO
from xml.sax.saxutils import escape

from attrs import frozen

from collectord.storage.objects.attempts import ObjectBody
from collectord.storage.objects.bucket import Digests, Proceed, as_received, pieces
from collectord.storage.objects.connections import NoAnswer
from collectord.storage.objects.keys import Item
from collectord.storage.objects.refusals import RefusedByServer
from collectord.storage.objects.s3claims import claim_in, is_proven, of_parts, of_whole
from collectord.storage.objects.s3client import S3Client, checksums_of
from collectord.storage.objects.s3proof import is_stored, prove

_PART = 8 * 1024 * 1024
"""The least size of a part, which is in memory while it is sent."""
_PARTS = 10_000
"""The most parts that S3 allows for one object."""
_READ = 1024 * 1024
_UPLOAD = re.compile(rb"<Upload>(.*?)</Upload>", re.DOTALL)
_UPLOAD_ID = re.compile(rb"<UploadId>([^<]*)</UploadId>")
_KEY = re.compile(rb"<Key>([^<]*)</Key>")


@frozen
class _Part:
    """
    A part that was stored.

    @ivar etag: as the server said it, which wants it back.
    @ivar sha256: as the server said it; empty if it said none.
    """

    digests: Digests
    etag: str
    sha256: str


def put_parts(client: S3Client, item: Item, file: BinaryIO, headers: Mapping[str, str], proceed: Proceed) -> None:
    """
    Store C{item}, and return once it is known that it was stored as it was received.

    @param headers: of the object.

    @raise Mismatch: the file has changed, or something else was stored.
    """
    sha256 = hashlib.sha256()
    parts: list[_Part] = []
    _abort_left_over(client, item.key)
    with _upload(client, item, headers) as upload:
        for number, piece in enumerate(pieces(file, max(_PART, -(-item.size // _PARTS))), 1):
            sha256.update(piece)
            parts.append(_put_part(client, item, {**upload, "partNumber": str(number)}, piece, proceed))
        as_received(item, sha256.hexdigest())
        _complete(client, item, upload, parts, file, proceed)


def _put_part(client: S3Client, item: Item, query: Mapping[str, str], piece: bytes, proceed: Proceed) -> _Part:
    digests = Digests.of(piece)
    body = ObjectBody(piece, len(piece), digests.sha256.hex())
    answer = client.request("PUT", item.key, query, checksums_of(digests), body, proceed)
    is_proven(claim_in(answer), of_whole(digests))
    return _Part(digests, answer.headers.get("etag", ""), answer.headers.get("x-amz-checksum-sha256", ""))


def _complete(
    client: S3Client, item: Item, upload: Mapping[str, str], parts: Sequence[_Part], file: BinaryIO, proceed: Proceed
) -> None:
    def whole_md5() -> str:
        file.seek(0)
        md5 = hashlib.md5(usedforsecurity=False)
        for piece in pieces(file, _READ):
            md5.update(piece)
        return md5.hexdigest()

    expected = of_parts([part.digests for part in parts], item.sha256, whole_md5)
    text = _list_of(parts)
    try:
        answer = client.request("POST", item.key, upload, {}, ObjectBody(text, len(text), _sha256(text)), proceed)
    except (NoAnswer, RefusedByServer) as e:
        # The answer to a completion may be lost. A server that is asked once more says that there is no such upload.
        if (isinstance(e, RefusedByServer) and e.answer.status != 404) or not is_stored(client, item, expected):
            raise
    else:
        prove(client, item, answer, expected)


def _list_of(parts: Sequence[_Part]) -> bytes:
    lines = []
    for number, part in enumerate(parts, 1):
        checksum = f"<ChecksumSHA256>{escape(part.sha256)}</ChecksumSHA256>" if part.sha256 else ""
        etag = escape(part.etag or f'"{part.digests.md5.hex()}"', {'"': "&quot;"})
        lines.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{checksum}</Part>")
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<CompleteMultipartUpload xmlns="{namespace}">{"".join(lines)}</CompleteMultipartUpload>'.encode()


@contextmanager
def _upload(client: S3Client, item: Item, headers: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Begin a multipart upload. If the body of the C{with} raises, it is aborted, since stored parts cost money."""
    begun = client.request("POST", item.key, {"uploads": ""}, {**headers, "x-amz-checksum-algorithm": "SHA256"})
    found = _UPLOAD_ID.search(begun.body)
    if found is None:
        raise RefusedByServer("POST", begun)
    upload = {"uploadId": unescape(found[1].decode())}
    try:
        yield upload
    except BaseException:
        with suppress(NoAnswer, RefusedByServer):
            client.request("DELETE", item.key, upload)
        raise


def _abort_left_over(client: S3Client, key: str) -> None:
    """
    Abort uploads of C{key} that were begun before, by a daemon that was killed.

    The crash was not removed then, so it is moved again, and its keys are of no other crash. A server that does not
    list uploads, or does not allow it, keeps their parts.
    """
    with suppress(NoAnswer, RefusedByServer):
        listed = client.request("GET", "", {"uploads": "", "prefix": key})
        for upload in _UPLOAD.findall(listed.body):
            of, name = _UPLOAD_ID.search(upload), _KEY.search(upload)
            if of is not None and name is not None and unescape(name[1].decode()) == key:
                client.request("DELETE", key, {"uploadId": unescape(of[1].decode())})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
