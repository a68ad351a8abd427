"""
Something that several threads share, made by the first one that needs it.
"""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazily(Generic[T]):
    """
    A value that is made when it is first asked for; the calls may come from any thread.

    @param make: may block. Where it raises, the caller gets the error, and the next call tries again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def drop(self, close: Callable[[T], object]) -> None:
        """Close the value, if one was made. The next call makes a new one."""
        with self._lock:
            while self._made:
                close(self._made.pop())
