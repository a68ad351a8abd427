"""
Tests that run in the reactor, and fail if they hang.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, cast

import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

P = ParamSpec("P")
SECONDS = 60.0


def in_reactor(test: Callable[P, Coroutine[Any, Any, None]], seconds: float = SECONDS) -> Callable[P, None]:
    """Make a test of a coroutine function. It fails if it takes more than C{seconds}."""

    @wraps(test)
    async def bounded(*args: P.args, **kwargs: P.kwargs) -> None:
        from twisted.internet import reactor

        await Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(seconds, cast(IReactorTime, reactor))

    return cast(Callable[P, None], pytest_twisted.ensureDeferred(bounded))
