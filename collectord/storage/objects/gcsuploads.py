"""
Uploads of large objects to Google Cloud Storage that were begun and not completed, so that what has arrived is not sent
again.

An upload has an address of its own, which is good for a week. It is a secret: whoever has it needs no credentials.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from attrs import define
from google.api_core.exceptions import GoogleAPICallError, from_http_status
from google.api_core.retry import Retry
from requests import Response, Session

from collectord.storage.objects.gcsanswers import refuse_others
from collectord.storage.objects.keys import Item
from collectord.storage.objects.watched import Watched

_CHUNK = 8 * 1024 * 1024
"""What is sent at a time, and is in memory then. Google wants a multiple of 256 KiB."""
_MOST = 256
"""The most uploads that are remembered; the one that has waited for the longest is forgotten."""
_FRUITLESS = 3
"""After so many attempts, one after the other, in which nothing arrived, another upload is begun."""
_BUSY = (408, 429)
"""Of the statuses from 400 to 499, those that say nothing about the upload."""
_INCOMPLETE = 308
_RANGE = re.compile(r"bytes=0-(\d+)")


@define(eq=False)
class ResumableUpload:
    """
    An upload that has begun.

    @ivar sha256: of all that is to be uploaded, in hex.
    @ivar arrived: how many bytes the server has; None: it has to be asked.
    @ivar fruitless: attempts, one after the other, in which nothing arrived.
    """

    address: str
    sha256: str
    arrived: int | None = 0
    fruitless: int = 0


class ResumableUploads:
    """
    The uploads to one bucket that were begun and not completed. Its methods block, and are for several threads.

    @param timeout: seconds to connect, and to wait for an answer.
    @param retry: tries a request again.
    """

    def __init__(self, timeout: tuple[float, float], retry: Retry) -> None:
        self._timeout = timeout
        self._retry = retry
        self._session = Session()
        self._lock = Lock()
        self._kept: OrderedDict[str, ResumableUpload] = OrderedDict()  # by key, the one that waited longest first

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def send(self, item: Item, file: Watched, begin: Callable[[], str]) -> Mapping[str, Any]:
        """
        Upload C{item}, from where an earlier attempt broke off.

        @param begin: begins an upload, and returns its address.
        @return: what the server says of the object.

        @raise GoogleAPICallError: the server refused something. Errors of the connection are raised as they are.
        """
        with self._lock:
            upload = self._kept.pop(item.key, None)
        if upload is not None and upload.sha256 == item.sha256:
            try:
                return self._go_on(upload, item, file)
            except GoogleAPICallError as e:
                if not _is_void(e):
                    raise
        return self._go_on(ResumableUpload(begin(), item.sha256), item, file)

    def _go_on(self, upload: ResumableUpload, item: Item, file: Watched) -> Mapping[str, Any]:
        send_next = self._retry(self._send_next)
        upload.fruitless += 1
        try:
            while (found := send_next(upload, item, file)) is None:
                pass
        except BaseException as e:
            if upload.fruitless < _FRUITLESS and not _is_void(e):
                self._keep(item.key, upload)
            raise
        return found

    def _keep(self, key: str, upload: ResumableUpload) -> None:
        upload.arrived = None
        with self._lock:
            self._kept[key] = upload
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)

    def _send_next(self, upload: ResumableUpload, item: Item, file: Watched) -> Mapping[str, Any] | None:
        """
        Send the next chunk, or ask how much has arrived.

        @return: what the server says of the object; None: it is not whole.
        """
        begin, upload.arrived = upload.arrived, None  # until the server has said it
        chunk = b""
        if begin is not None:
            file.seek(begin)
            chunk = file.read(_CHUNK)
        sent = f"{begin}-{begin + len(chunk) - 1}" if begin is not None and chunk else "*"
        headers = {"Content-Range": f"bytes {sent}/{item.size}"}
        response = self._session.put(
            upload.address, chunk, headers=headers, timeout=self._timeout, allow_redirects=False
        )
        refuse_others(response)
        if response.status_code in (200, 201):
            found: Mapping[str, Any] = response.json()
            return found
        if response.status_code != _INCOMPLETE:
            raise _refusal(response, response.reason)
        upload.arrived = _arrived(response)
        if chunk and begin is not None:
            if upload.arrived <= begin:
                raise _refusal(response, "the server has taken nothing of what was sent")
            upload.fruitless = 0
        elif upload.arrived >= item.size:
            raise _refusal(response, "the server has all of the object, and does not complete it")
        return None


def _arrived(response: Response) -> int:
    """Return how many bytes have arrived."""
    found = _RANGE.fullmatch(response.headers.get("Range", ""))
    return int(found[1]) + 1 if found else 0


def _refusal(response: Response, why: str) -> GoogleAPICallError:
    """Return the error of an answer. Its text must not have the address of the upload."""
    error: GoogleAPICallError = from_http_status(response.status_code, why, response=response)
    return error


def _is_void(error: BaseException) -> bool:
    """Tell whether an upload can't be continued after C{error}."""
    return isinstance(error, GoogleAPICallError) and 400 <= (error.code or 0) < 500 and error.code not in _BUSY
