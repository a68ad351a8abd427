"""
How destinations and publishers are for the processes of a daemon, which each find that out by themselves.
"""

from collections.abc import Iterable

from attrs import frozen


@frozen
class SinkState:
    """
    How a destination or publisher is for one process that delivers to it.

    @ivar problem: why it took no crash when it was tried last; empty if it did, or was not tried yet.
    @ivar resumes_in_s: seconds until it is tried again after failures; 0 if it is not backing off.
    @ivar cautions: what it can't promise, in plain sentences.
    @ivar is_tried: whether that is known of now: it may also be that nobody has tried it yet, or since it has failed.
    """

    name: str
    problem: str = ""
    resumes_in_s: float = 0.0
    cautions: tuple[str, ...] = ()
    is_tried: bool = True


def together(name: str, states: Iterable[SinkState]) -> SinkState:
    """
    Return how the destination or publisher of that name is, if the processes say C{states}, also of others.

    It has a problem if it has one for any process that knows how it is now. If none does, what was found last counts.
    """
    own = [state for state in states if state.name == name]
    known = [state for state in own if state.is_tried]
    worst = next((state for state in known or own if state.problem), SinkState(name))
    cautions = dict.fromkeys(caution for state in own for caution in state.cautions)
    return SinkState(name, worst.problem, worst.resumes_in_s, tuple(cautions), bool(known))
