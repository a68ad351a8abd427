"""
The results that a throttle rule may have.
"""

from enum import Enum


class Result(Enum):
    """
    The result is what a rule decides about a report that matches it.

    @cvar ACCEPT: keep it and have it processed.
    @cvar DEFER: keep it, do not have it processed.
    @cvar REJECT: do not keep it, and say so.
    @cvar FAKEACCEPT: do not keep it, and answer as if it were kept.
    @cvar STOP: do not keep it, say so, and ask its client to send no more reports of this version.
    @cvar IGNORE: do not keep it, and answer that it is not supported.
    @cvar CONTINUE: ask the next rule.
    """

    ACCEPT = "accept"
    DEFER = "defer"
    REJECT = "reject"
    FAKEACCEPT = "fakeaccept"
    STOP = "stop"
    IGNORE = "ignore"
    CONTINUE = "continue"
