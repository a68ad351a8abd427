"""
A file that is read while it is sent to a bucket, as long as its crash is not abandoned.
"""

from typing import BinaryIO, Self

from attrs import frozen

from collectord.storage.objects.bucket import Mismatch, Proceed
from collectord.storage.objects.keys import Item

_SENT_TO_ITS_END = 16 * 1024 * 1024
"""
An object of up to this size is sent to its end even if its crash is abandoned meanwhile: then it has arrived, however
slow the link is, and is not sent again.
"""


@frozen
class Watched:
    """
    A file that is read while it is sent, but not any further once the crash was abandoned, so that its upload ends.

    @ivar proceed: raises an error if the crash was abandoned.
    """

    file: BinaryIO
    proceed: Proceed

    @classmethod
    def of(cls, item: Item, file: BinaryIO, proceed: Proceed) -> Self:
        """Watch the file of C{item}. One that is not too large is read to its end in any case."""
        return cls(file, proceed if item.size > _SENT_TO_ITS_END else lambda: None)

    def read(self, size: int = -1) -> bytes:
        """
        Read on.

        @raise Mismatch: the file can't be read. An C{OSError} would look like one of the connection.
        """
        self.proceed()
        try:
            return self.file.read(size)
        except OSError as e:
            raise Mismatch(f"can't be read: {e}") from e

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)
