"""
Tests that run in the reactor, and fail if they hang.
"""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, cast

import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import Invalid
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyObject

P = ParamSpec("P")
SECONDS = 60.0


def in_reactor(test: Callable[P, Coroutine[Any, Any, None]], seconds: float = SECONDS) -> Callable[P, None]:
    """Make a test of a coroutine function. It fails if it takes more than C{seconds}."""

    @wraps(test)
    async def bounded(*args: P.args, **kwargs: P.kwargs) -> None:
        from twisted.internet import reactor

        await Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(seconds, cast(IReactorTime, reactor))

    return cast(Callable[P, None], pytest_twisted.ensureDeferred(bounded))


async def assert_raises(error: type[Exception], work: Awaitable[object], promise: str) -> None:
    """Fail, and say what was promised, unless C{work} raises C{error}."""
    try:
        result = await work
    except error:
        return
    except Exception as other:
        raise AssertionError(f"{promise}. It raised {other!r}.") from other
    raise AssertionError(f"{promise}. It returned {result!r}.")


def assert_implements(interface: InterfaceClass, plugin: object) -> None:
    """Fail, and say what is missing, unless C{plugin} implements C{interface}, and has a name."""
    name = interface.__name__
    promise = f"{type(plugin).__name__} needs @implementer({name}), and all that collectord.interfaces.{name} lists"
    try:
        verifyObject(interface, plugin)
    except Invalid as e:
        raise AssertionError(f"{promise}: {e}") from e
    assert isinstance(plugin.name, str), f"{promise}: its name is a text for log lines"  # type: ignore[attr-defined]
