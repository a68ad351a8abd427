"""
Sends a large object to S3 in parts, of which one is in memory at a time.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO
from xml.sax.saxutils import escape

from collectord.storage.objects.attempts import ObjectBody
from collectord.storage.objects.bucket import Digests, Mismatch, Proceed, as_received, pieces
from collectord.storage.objects.connections import NoAnswer
from collectord.storage.objects.keys import Item
from collectord.storage.objects.refusals import RefusedByServer
from collectord.storage.objects.s3claims import Expected, claim_in, is_proven, of_parts, of_whole
from collectord.storage.objects.s3client import S3Client, checksums_of
from collectord.storage.objects.s3proof import is_stored, prove
from collectord.storage.objects.s3uploads import SentPart, Upload, Uploads, upload_id_in

_PART = 8 * 1024 * 1024
"""The least size of a part, which is in memory while it is sent."""
_PARTS = 10_000
"""The most parts that S3 allows for one object."""
_READ = 1024 * 1024
_FOR_A_WHILE = frozenset({403, 408, 429, 502, 503, 504})
"""With these the server refuses what it may take later."""
_FRUITLESS = 2
"""After so many attempts, one after the other, in which no part arrived, the next one ends an upload."""


def put_parts(
    client: S3Client,
    uploads: Uploads,
    item: Item,
    file: BinaryIO,
    headers: Mapping[str, str],
    proceed: Proceed,
    *,
    again: bool,
) -> None:
    """
    Store C{item}, and return once it is known that it was stored as it was received.

    If this fails in the middle, C{uploads} remembers how far it came, and it goes on from there the next time.

    @param headers: of the object.
    @param again: it was stored before, and is looked for first.

    @raise Mismatch: the file has changed, or something else was stored.
    """
    if again and is_stored(client, item, _expected(item, [Digests.of(piece) for piece in _parts_of(item, file)], file)):
        return
    file.seek(0)
    upload = uploads.take(item)
    if upload is not None:
        try:
            _send(client, uploads, item, file, upload, proceed)
        except RefusedByServer:
            if uploads.keeps(item):
                raise
            file.seek(0)  # the server has forgotten it
        else:
            return
    _send(client, uploads, item, file, _begin(client, item, headers), proceed)


def _begin(client: S3Client, item: Item, headers: Mapping[str, str]) -> Upload:
    begun = client.request("POST", item.key, {"uploads": ""}, {**headers, "x-amz-checksum-algorithm": "SHA256"})
    upload_id = upload_id_in(begun)
    if not upload_id:
        raise RefusedByServer("POST", begun)
    return Upload(upload_id, item.sha256)


def _send(client: S3Client, uploads: Uploads, item: Item, file: BinaryIO, upload: Upload, proceed: Proceed) -> None:
    """Send the parts that have not arrived yet, and complete the upload."""
    before = len(upload.parts)
    try:
        parts = list(_arrived(client, item, file, upload, proceed))
        _complete(client, item, upload, parts, file, proceed)
    except BaseException as e:
        upload.fruitless = 0 if len(upload.parts) > before else upload.fruitless + 1
        if _may_go_on(e, upload):
            uploads.keep(item.key, upload)
        else:
            uploads.abort(item.key, upload)
        raise


def _may_go_on(error: BaseException, upload: Upload) -> bool:
    """Tell whether an upload that has failed may be gone on with later."""
    if upload.fruitless > _FRUITLESS:
        return False
    if isinstance(error, RefusedByServer):  # some say 500 if they have forgotten the upload
        return error.answer.status in _FOR_A_WHILE or (error.answer.status >= 500 and not upload.fruitless)
    return not isinstance(error, Mismatch | OSError)


def _arrived(client: S3Client, item: Item, file: BinaryIO, upload: Upload, proceed: Proceed) -> Iterator[SentPart]:
    """The parts, each once the server has it."""
    sha256 = hashlib.sha256()
    for number, piece in enumerate(_parts_of(item, file), 1):
        sha256.update(piece)
        digests = Digests.of(piece)
        part = upload.arrived(number, digests)
        if part is None:
            query = {"partNumber": str(number), "uploadId": upload.upload_id}
            part = upload.parts[number] = _put_part(client, item, query, piece, digests, proceed)
        yield part
    as_received(item, sha256.hexdigest())


def _put_part(
    client: S3Client, item: Item, query: Mapping[str, str], piece: bytes, digests: Digests, proceed: Proceed
) -> SentPart:
    body = ObjectBody(piece, len(piece), digests.sha256.hex())
    answer = client.request("PUT", item.key, query, checksums_of(digests), body, proceed)
    is_proven(claim_in(answer), of_whole(digests))
    return SentPart(digests, answer.headers.get("etag", ""), answer.headers.get("x-amz-checksum-sha256", ""))


def _parts_of(item: Item, file: BinaryIO) -> Iterator[bytes]:
    return pieces(file, max(_PART, -(-item.size // _PARTS)))


def _expected(item: Item, parts: Sequence[Digests], file: BinaryIO) -> Expected:
    def whole_md5() -> str:
        file.seek(0)
        md5 = hashlib.md5(usedforsecurity=False)
        for piece in pieces(file, _READ):
            md5.update(piece)
        return md5.hexdigest()

    return of_parts(parts, item.sha256, whole_md5)


def _complete(
    client: S3Client, item: Item, upload: Upload, parts: Sequence[SentPart], file: BinaryIO, proceed: Proceed
) -> None:
    expected = _expected(item, [part.digests for part in parts], file)
    text = _list_of(parts)
    body = ObjectBody(text, len(text), hashlib.sha256(text).hexdigest())
    try:
        answer = client.request("POST", item.key, {"uploadId": upload.upload_id}, {}, body, proceed)
    except (NoAnswer, RefusedByServer) as e:
        # The answer to a completion may be lost. A server that is asked once more says that there is no such upload.
        if (isinstance(e, RefusedByServer) and e.answer.status != 404) or not is_stored(client, item, expected):
            raise
    else:
        prove(client, item, answer, expected)


def _list_of(parts: Sequence[SentPart]) -> bytes:
    lines = []
    for number, part in enumerate(parts, 1):
        checksum = f"<ChecksumSHA256>{escape(part.sha256)}</ChecksumSHA256>" if part.sha256 else ""
        etag = escape(part.etag or f'"{part.digests.md5.hex()}"', {'"': "&quot;"})
        lines.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{checksum}</Part>")
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<CompleteMultipartUpload xmlns="{namespace}">{"".join(lines)}</CompleteMultipartUpload>'.encode()
