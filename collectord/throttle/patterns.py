r"""
Regular expressions that are run by RE2, so that the time of a search is bounded by the length of the text.

Clients choose the text, and there are texts on which Python's own engine never ends. RE2 refuses what can't be matched
in bounded time, such as look-around. Some expressions mean something else to RE2 than to Python: see L{differences}.
"""

import re
from collections.abc import Iterator
from typing import Any

import re2
from attrs import field, frozen

from collectord.errors import ConfigError

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True
_OPTIONS.max_mem = 64 * 1024 * 1024  # with less memory, an expression of thousands of words is a hundred times slower

_MOST_REPETITIONS = 1000

_ADVICE = {
    r"\(\?(<?[=!])": "RE2 has no look-around; put conditions together with all, any and not",
    r"\\[1-9]|\(\?P$": "RE2 has no back-references",
    r"[+*?}]\+|\(\?>": "RE2 has no possessive or atomic parts, and needs none: leave that out",
    r"\\Z": r"write \z for the end of the text",
    r"\\[uUN]": r"write the character itself, or its number as in \x{20AC}",
    r"\(\?[aLu]": "leave the flag out: text is Unicode",
    r"\(\?[#x]": "RE2 has no comments in patterns, and no (?x)",
    r"\(\?\(": "RE2 has no conditional parts",
    r"\{\d+(,\d*)?\}": f"RE2 repeats {_MOST_REPETITIONS} times at most, in all nested repetitions together",
}
"""What the operator should write instead, by a pattern for the end of RE2's error message."""

_PIECE = re.compile(r"\\Q.*?(?:\\E|\Z)|\\.|\[:\^?\w+:\]|\[\^?\]?|\{,\d+\}|\{\d+(?:,\d*)?\}|.", re.DOTALL)

_MEANINGS = {
    r"\d": r"\d is 0-9 alone; write [0-9] if you mean that, else \p{Nd}",
    r"\D": r"\D is all but 0-9; write [^0-9] if you mean that, else \P{Nd}",
    r"\w": r"\w is A-Z, a-z, 0-9 and _ alone; write [A-Za-z0-9_] if you mean that, else [\pL\pN_]",
    r"\W": r"\W is all but A-Z, a-z, 0-9 and _; write [^A-Za-z0-9_] if you mean that, else [^\pL\pN_]",
    r"\s": r"\s is ASCII space alone; write [ \t\r\n\f] if you mean that, else [\s\v\pZ]",
    r"\S": r"\S is all but ASCII space; write [^ \t\r\n\f] if you mean that, else [^\s\v\pZ]",
    r"\b": r"\b knows words of A-Z, a-z, 0-9 and _ alone",
    r"\B": r"\B knows words of A-Z, a-z, 0-9 and _ alone",
    "$": r"$ is the very end, and not before a last newline; write \z if you mean that, else \n?\z",
}


def _compiled(text: str) -> Any:
    try:
        if not isinstance(text, str):
            raise ConfigError("it must be a string; flags are written as in (?i)firefox")
        if any(map(_repeats_too_often, _pieces(text))):  # RE2 itself would take a number of twenty digits literally
            raise ConfigError(_ADVICE[r"\{\d+(,\d*)?\}"])
        return re2.compile(text, _OPTIONS)
    except ConfigError as error:
        raise ConfigError(f"not a regular expression: {text!r}: {error}") from error
    except UnicodeEncodeError as error:
        raise ConfigError(f"not a regular expression: {text!r}: it is not Unicode text") from error
    except re2.error as error:
        why = error.args[0].decode(errors="replace")
        advice = next((f"; {advice}" for ending, advice in _ADVICE.items() if re.search(f"(?:{ending})$", why)), "")
        raise ConfigError(f"not a regular expression: {text!r}: {why}{advice}") from error


@frozen
class Pattern:
    """
    A pattern is a compiled regular expression in RE2's syntax.

    @raise ConfigError: the text is no such expression; the error says what would be right.
    """

    text: str
    _compiled: Any = field(init=False, eq=False, repr=False)

    @_compiled.default
    def _compile(self) -> Any:
        return _compiled(self.text)

    @property
    def size(self) -> int:
        """The size of the compiled program. A search takes at most this many steps for each byte of the text."""
        return int(self._compiled.programsize)

    def is_in(self, text: str) -> bool:
        """Tell whether the pattern is found anywhere in C{text}. A lone surrogate in it counts as a C{?}."""
        return self._compiled.search(text.encode(errors="replace")) is not None


def differences(pattern: str) -> list[str]:
    r"""
    List what in C{pattern} means something else to RE2 than to Python's C{re}, such as C{\d} and C{$}.

    @return: a sentence for each, which also says what to write instead.
    """
    found = {}
    multiline = re.search(r"\(\?[a-zA-Z]*m", pattern) is not None  # with this flag $ means the same to both
    for piece in _pieces(pattern):
        if piece in _MEANINGS and not (piece == "$" and multiline):
            found[piece] = _MEANINGS[piece]
        elif piece.startswith("{,"):
            found[piece] = f"{piece} is no repetition; write {{0,{piece[2:]}"
    return list(found.values())


def _pieces(pattern: str) -> Iterator[str]:
    """Split C{pattern} into its tokens. Of a set, C{[...]}, only the escapes are given."""
    in_set = False
    for piece in _PIECE.findall(pattern):
        if in_set:
            in_set = piece != "]"
            if piece[0] == "\\":
                yield piece
        elif piece[0] == "[":
            in_set = ":" not in piece
        else:
            yield piece


def _repeats_too_often(piece: str) -> bool:
    numbers = piece[1:-1].split(",") if piece[0] == "{" and piece[1:2].isdigit() else []
    return any(len(number) > 100 or int(number or 0) > _MOST_REPETITIONS for number in numbers)
