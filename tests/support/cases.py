"""
One test for many small cases.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from inspect import signature
from typing import Any, Final, cast

import pytest

_PARAM: Final = type(pytest.param())

_Test = Callable[..., None]
_Ids = Iterable[str] | Callable[[Any], object] | None


def for_each(names: str | Sequence[str], cases: Iterable[Any], ids: _Ids = None) -> Callable[[_Test], _Test]:
    """
    Run a test for each of many small cases, as C{pytest.mark.parametrize} does, and yet as one test.

    What pytest does for each test takes longer than most cases do. All cases are tried; the first that fails is shown
    as any test that fails, with a note that names all that do. The cases share the fixtures of the test, so it is for
    tests that need none, or change nothing of what they are given.
    """
    arguments = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    alone = isinstance(names, str) and len(arguments) == 1
    given = list(cases)
    rows = [case.values if isinstance(case, _PARAM) else (case,) if alone else case for case in given]
    table = [
        (label, dict(zip(arguments, row, strict=True)))
        for label, row in zip(_labels(given, rows, ids), rows, strict=True)
    ]
    assert table, "there are no cases"

    def of(test: _Test) -> _Test:
        @wraps(test)
        def run(*args: object, **fixtures: object) -> None:
            __tracebackhide__ = True
            failures: dict[str, BaseException] = {}
            for label, values in table:
                try:
                    test(*args, **fixtures, **values)
                except (Exception, pytest.fail.Exception) as error:
                    failures[label] = error
            for failure in failures.values():
                failure.add_note(f"{len(failures)} of {len(table)} cases fail: {'; '.join(failures)}")
                raise failure

        whole = signature(test)
        left = [parameter for name, parameter in whole.parameters.items() if name not in arguments]
        run.__signature__ = whole.replace(parameters=left)  # type: ignore[attr-defined]
        return run

    return of


def _labels(cases: Sequence[Any], rows: Iterable[Iterable[Any]], ids: _Ids) -> list[str]:
    """Name each case: by C{ids}, by the id of a C{pytest.param}, or by its values; the number makes it the only one."""
    if callable(ids):
        ids = [" ".join(str(ids(value)) for value in row) for row in rows]
    elif ids is None:
        ids = [str(case.id) if isinstance(case, _PARAM) else repr(case)[:120] for case in cases]
    return [f"{number}: {label}" for number, label in enumerate(ids, 1)]


def first_quick(names: str | Sequence[str], cases: Iterable[Any], ids: _Ids = None) -> pytest.MarkDecorator:
    """
    Make a test of each case, as C{pytest.mark.parametrize} does, all but the first of which are C{slow}.

    For variants of one promise that each take a server, or a store, of their own: the fast tests show that it is kept,
    and all tests that it is in every variant.
    """
    first, *others = cases
    alone = isinstance(names, str) and "," not in names
    slow = []
    for case in others:
        param = case if isinstance(case, _PARAM) else pytest.param(*([case] if alone else case))
        slow.append(pytest.param(*param.values, id=param.id, marks=[*param.marks, pytest.mark.slow]))
    return pytest.mark.parametrize(names, [first, *slow], ids=cast(Any, ids))
