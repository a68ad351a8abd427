"""
The destination C{type = "azure"}: crashes in a container of Azure Blob Storage.
"""

import hashlib
import re
import ssl
from base64 import b64encode
from collections.abc import Collection
from contextlib import suppress
from typing import BinaryIO

from collectord.errors import ConfigError
from collectord.plugins import PluginContext, PluginType
from collectord.storage.content import open_content
from collectord.storage.objects.attempts import ObjectBody
from collectord.storage.objects.azureclient import AzureClient
from collectord.storage.objects.azuresettings import AzureSettings
from collectord.storage.objects.azuresigning import Authorize, NotAuthorized, authorization_of
from collectord.storage.objects.bucket import (
    BucketCrashStorage,
    Digests,
    Mismatch,
    Proceed,
    as_received,
    md5_of,
    pieces,
)
from collectord.storage.objects.connections import Answer, NoAnswer, trusting
from collectord.storage.objects.keys import Item
from collectord.storage.objects.refusals import RefusedByServer
from collectord.storage.objects.watched import Watched

_BLOCK = 8 * 1024 * 1024
"""The size of a block, which is in memory while it is sent. Azure takes 50,000 of them for one object."""
_NAME = re.compile(rb"<Name>([^<]*)</Name>")


class AzureBucket:
    """
    A container of Azure Blob Storage.

    It implements L{Bucket<collectord.storage.objects.bucket.Bucket>}.

    Azure compares the MD5 that each request has with the body, and says in its answer which one it has stored.
    """

    errors: tuple[type[Exception], ...] = (NoAnswer, RefusedByServer, NotAuthorized)
    refusals: tuple[type[Exception], ...] = (RefusedByServer,)

    def __init__(self, settings: AzureSettings, authorize: Authorize, tls: ssl.SSLContext | None) -> None:
        self.name = f"azure://{settings.account}/{settings.container}"
        self.what = f"container {settings.container}"
        self._multipart_bytes = settings.multipart_bytes
        self._tier = {"x-ms-access-tier": settings.access_tier} if settings.access_tier else {}
        self._client = AzureClient(settings, authorize, tls)

    def put(self, item: Item, proceed: Proceed, *, again: bool) -> None:
        with open_content(item.content) as file:
            if again and self._is_stored(item, _md5_of(file, item)):
                return
            if item.size > self._multipart_bytes:
                self._put_blocks(item, file, proceed)
            else:
                self._put_whole(item, file, proceed)

    def get(self, key: str) -> bytes | None:
        return self._client.get(key)

    def delete(self, key: str) -> None:
        self._client.request("DELETE", key)

    def describe_error(self, error: Exception) -> str:
        return str(error)

    def close(self) -> None:
        self._client.close()

    def _put_whole(self, item: Item, file: BinaryIO, proceed: Proceed) -> None:
        md5 = _md5_of(file, item)
        headers = {
            **self._tier,
            "content-type": item.content_type,
            "content-md5": md5,
            "x-ms-blob-type": "BlockBlob",
        }
        body = ObjectBody(Watched.of(item, file, proceed), item.size)
        answer = self._client.request("PUT", item.key, {}, headers, body, proceed)
        if not _is_proven(answer, md5):
            self._look(item, md5)

    def _put_blocks(self, item: Item, file: BinaryIO, proceed: Proceed) -> None:
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        names, arrived = [], self._arrived(item)
        for number, piece in enumerate(pieces(file, _BLOCK)):
            md5.update(piece)
            sha256.update(piece)
            digests = Digests.of(piece)
            names.append(_name_of(number, digests))
            if names[-1] not in arrived:
                self._put_block(item, names[-1], piece, digests, proceed)
        as_received(item, sha256.hexdigest())
        self._commit(item, names, b64encode(md5.digest()).decode(), proceed)

    def _arrived(self, item: Item) -> Collection[str]:
        """
        Ask for the names of the blocks that came before an earlier attempt failed, perhaps that of another process.

        Azure keeps them for a week. The name of a block has its MD5, and Azure has stored it only if it was that of its
        content.
        """
        try:
            answer = self._client.request("GET", item.key, {"comp": "blocklist", "blocklisttype": "uncommitted"})
        except (NoAnswer, RefusedByServer):  # as there are none, mostly
            return ()
        return {name.decode(errors="replace") for name in _NAME.findall(answer.body)}

    def _put_block(self, item: Item, name: str, piece: bytes, digests: Digests, proceed: Proceed) -> None:
        query, headers = {"comp": "block", "blockid": name}, {"content-md5": digests.base64_md5}
        answer = self._client.request("PUT", item.key, query, headers, ObjectBody(piece, len(piece)), proceed)
        _is_proven(answer, digests.base64_md5)

    def _commit(self, item: Item, names: list[str], md5: str, proceed: Proceed) -> None:
        """Make the object of the blocks. Done once more, as when an answer is lost, it makes the same object."""
        listed = "".join(f"<Latest>{name}</Latest>" for name in names)
        text = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        headers = {
            **self._tier,
            "content-md5": Digests.of(text).base64_md5,
            "x-ms-blob-content-md5": md5,
            "x-ms-blob-content-type": item.content_type,
        }
        self._client.request("PUT", item.key, {"comp": "blocklist"}, headers, ObjectBody(text, len(text)), proceed)
        self._look(item, md5)

    def _is_stored(self, item: Item, md5: str) -> bool:
        """Tell whether an object is surely there, as it should be, without an error if it is not."""
        with suppress(NoAnswer, RefusedByServer, Mismatch):
            self._look(item, md5)
            return True
        return False

    def _look(self, item: Item, md5: str) -> None:
        """Ask for the size of the object, and for its MD5 where there is one."""
        answer = self._client.request("HEAD", item.key)
        found = answer.headers.get("content-length", "an unknown number of")
        if found != str(item.size):
            raise Mismatch(f"was stored with {found} bytes; it should be {item.size}")
        _is_proven(answer, md5)


def _md5_of(file: BinaryIO, item: Item) -> str:
    return b64encode(md5_of(file, item)).decode()


def _name_of(number: int, digests: Digests) -> str:
    """Return the name of a block, which stands for its place and its content."""
    return b64encode(b"%06d" % number + digests.md5).decode()


def _is_proven(answer: Answer, md5: str) -> bool:
    """
    Compare the MD5 in C{answer} with what was sent.

    @return: whether there is one.

    @raise Mismatch: it is another one.
    """
    found = answer.headers.get("content-md5")
    if found not in ("", md5):
        raise Mismatch(f"was stored with the MD5 {found}; it should be {md5}")
    return found != ""


def make(settings: AzureSettings, context: PluginContext) -> BucketCrashStorage:
    """
    Make a destination of C{type = "azure"}. It reads C{ca_file}, and connects to nothing yet.

    @raise ConfigError: C{ca_file} can't be read or has no certificate, or there is nothing to authorize requests with.
    """
    try:
        tls = trusting(settings.ca_file) if settings.ca_file else None
    except ValueError as e:
        raise ConfigError(f"ca_file = {str(settings.ca_file)!r}: {e}") from e
    bucket = AzureBucket(settings, authorization_of(settings), tls)
    return BucketCrashStorage(bucket, settings, context.reactor.callFromThread)


AZURE = PluginType(AzureSettings, make)
"""The entry point C{azure} of collectord's own destinations (in C{setup.py}) names this."""
