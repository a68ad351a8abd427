"""
Uploads of large objects to S3 that were begun and not completed, so that a part that has arrived is not sent again.
"""

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from html import unescape
from threading import Lock

from attrs import define, field, frozen

from collectord.storage.objects.bucket import Digests, Mismatch
from collectord.storage.objects.connections import Answer, NoAnswer
from collectord.storage.objects.keys import Item
from collectord.storage.objects.refusals import RefusedByServer
from collectord.storage.objects.s3claims import Claim, bare, is_proven, of_whole
from collectord.storage.objects.s3client import S3Client

_MOST = 256
"""The most uploads that are remembered. The one that has waited for the longest is given up then."""
_WAITS_S = 9000.0
"""
An upload that was not gone on with for so long is given up. The longest pause of a crash that failed is shorter: this
one is in the quarantine, or another process has moved it.
"""
_ROUNDED_S = 1.0
"""A server tells the time in whole seconds."""
_UPLOAD = re.compile(rb"<Upload>(.*?)</Upload>", re.DOTALL)
_PART = re.compile(rb"<Part>(.*?)</Part>", re.DOTALL)


@frozen
class SentPart:
    """
    A part that the server has.

    @ivar etag: as the server said it, which wants it back.
    @ivar sha256: as the server said it; empty if it said none.
    """

    digests: Digests
    etag: str
    sha256: str


@frozen
class Listed:
    """A part that the server says it has, which somebody else has sent."""

    etag: str
    sha256: str

    def as_sent(self, digests: Digests) -> SentPart | None:
        """Return the part, if what the server says proves that it has these checksums."""
        claim = Claim(etag=bare(self.etag), sha256=self.sha256, kms=bool(self.sha256))
        with suppress(Mismatch):
            if is_proven(claim, of_whole(digests)):
                return SentPart(digests, self.etag, self.sha256)
        return None


@define(eq=False)
class Upload:
    """
    An upload that has begun.

    @ivar sha256: of all that is to be uploaded, in hex.
    @ivar parts: those that this process has sent, by their numbers.
    @ivar listed: those that others have sent.
    @ivar used_at: when it was gone on with for the last time.
    @ivar fruitless: attempts, one after the other, in which no part arrived.
    """

    upload_id: str
    sha256: str
    parts: dict[int, SentPart] = field(factory=dict)
    listed: dict[int, Listed] = field(factory=dict)
    used_at: float = 0.0
    fruitless: int = 0

    def arrived(self, number: int, digests: Digests) -> SentPart | None:
        """Return the part of that number, if the server has it with these checksums."""
        part = self.parts.get(number)
        if part is not None and part.digests == digests:
            return part
        listed = self.listed.get(number)
        return None if listed is None else listed.as_sent(digests)


class Uploads:
    """
    The uploads to one bucket that were begun and not completed. Its methods block, and are for several threads.

    @param clock: returns seconds.
    """

    def __init__(self, client: S3Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._began = clock()
        self._lock = Lock()
        self._aborted: deque[str] = deque(maxlen=_MOST)
        self._kept: OrderedDict[str, Upload] = OrderedDict()  # by key, the one that has waited for the longest first

    def keep(self, key: str, upload: Upload) -> None:
        """Remember an upload that may be gone on with later."""
        upload.used_at = self._clock()
        with self._lock:
            before = self._kept.pop(key, None)
            self._kept[key] = upload
            too_many = self._kept.popitem(last=False) if len(self._kept) > _MOST else None
        if before is not None and before.upload_id != upload.upload_id:
            self.abort(key, before)
        if too_many is not None:
            self.abort(*too_many)

    def keeps(self, item: Item) -> bool:
        """Tell whether there is an upload of C{item} that was remembered."""
        return item.key in self._kept

    def take(self, item: Item) -> Upload | None:
        """Return the upload of C{item} to go on with, and forget it; None: there is none."""
        with self._lock:
            upload = self._kept.pop(item.key, None)
        if upload is not None and upload.sha256 != item.sha256:
            self.abort(item.key, upload)
            return None
        return upload or self._left_by_others(item)

    def give_up_old(self) -> None:
        """Abort the uploads that nobody goes on with."""
        while (old := self._old()) is not None:
            self.abort(*old)

    def _old(self) -> tuple[str, Upload] | None:
        if not self._kept:  # as mostly
            return None
        with self._lock:
            for upload in self._kept.values():
                if self._clock() - upload.used_at > _WAITS_S:
                    return self._kept.popitem(last=False)
                break
        return None

    def close(self) -> None:
        """Abort all uploads, for nobody will go on with them; but not if the server does not answer."""
        with self._lock:
            kept, self._kept = self._kept, OrderedDict()
        with suppress(NoAnswer):
            for key, upload in kept.items():
                with suppress(RefusedByServer):
                    self._client.request("DELETE", key, {"uploadId": upload.upload_id})

    def abort(self, key: str, upload: Upload) -> None:
        """Abort an upload, since stored parts cost money. It is not gone on with, even if the server still lists it."""
        self._aborted.append(upload.upload_id)
        with suppress(NoAnswer, RefusedByServer):
            self._client.request("DELETE", key, {"uploadId": upload.upload_id})

    def _left_by_others(self, item: Item) -> Upload | None:
        """
        Look for uploads of C{item} that were begun by other processes.

        One that was begun after this process is gone on with, and all others are aborted: they may have been begun with
        other settings. The crash was not removed, so it is moved again, and its keys are of no other crash. A server
        that does not list uploads, or does not allow it, keeps their parts.
        """
        found = None
        with suppress(NoAnswer, RefusedByServer):
            answer = self._client.request("GET", "", {"uploads": "", "prefix": item.key})
            for upload, age in _uploads_in(answer, item):
                if upload.upload_id in self._aborted:
                    continue
                is_new = age is not None and age.total_seconds() + _ROUNDED_S < self._clock() - self._began
                if found is None and is_new and self._list_parts(item.key, upload):
                    found = upload
                else:
                    self.abort(item.key, upload)
        return found

    def _list_parts(self, key: str, upload: Upload) -> bool:
        try:
            answer = self._client.request("GET", key, {"uploadId": upload.upload_id})
        except (NoAnswer, RefusedByServer):  # that needs a permission of its own
            return False
        for part in _PART.findall(answer.body):
            number = _text("PartNumber", part)
            if number.isdecimal():
                upload.listed[int(number)] = Listed(_text("ETag", part), _text("ChecksumSHA256", part))
        return True


def upload_id_in(answer: Answer) -> str:
    """Return the id of the upload that was begun; empty: C{answer} has none."""
    return _text("UploadId", answer.body)


def _uploads_in(answer: Answer, item: Item) -> Iterator[tuple[Upload, timedelta | None]]:
    """The uploads of C{item} in a list, and how old each is; None: the server does not tell."""
    for listed in _UPLOAD.findall(answer.body):
        upload_id = _text("UploadId", listed)
        if upload_id and _text("Key", listed) == item.key:
            yield Upload(upload_id, item.sha256), _age(_text("Initiated", listed), answer)


def _age(initiated: str, answer: Answer) -> timedelta | None:
    """By the clock of the server alone."""
    try:
        return parsedate_to_datetime(answer.headers.get("date")) - datetime.fromisoformat(initiated)
    except (TypeError, ValueError):
        return None


def _text(name: str, xml: bytes) -> str:
    found = re.search(rb"<%b>([^<]*)</%b>" % (name.encode(), name.encode()), xml)
    return unescape(found[1].decode(errors="replace")).strip() if found else ""
