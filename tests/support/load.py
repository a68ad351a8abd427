"""
Clients that post one report after the other, and remember what was acknowledged.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread
from uuid import uuid4

from attrs import define, field

from tests.support.http import post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.response import Incomplete, Response
from tests.support.wait import until

SMALL = (1000,)
SPILLED = (300_000, 5_000)
BIG = (3_000_000,)


@define
class Load:
    """
    @ivar acknowledged: the serial of each crash id that was answered.
    @ivar refused: other answers.
    @ivar cut_off: how often there was no answer.
    """

    acknowledged: dict[str, str] = field(factory=dict)
    refused: list[Response] = field(factory=list)
    cut_off: int = 0
    stopping: Event = field(factory=Event)

    def wait_for_more(self, number: int, timeout: float = 60) -> None:
        """Until so many more were acknowledged."""
        goal = len(self.acknowledged) + number
        until(lambda: len(self.acknowledged) >= goal, timeout)

    def post_until_stopped(self, port: int, name: str, shapes: Sequence[Sequence[int]], rest: float) -> None:
        """One client."""
        for number in count():
            if self.stopping.is_set():
                return
            report = make_report(f"{name}-{number}", *shapes[number % len(shapes)])
            try:
                response = post(port, report.body(), HEADERS, timeout=60)
            except (OSError, Incomplete):
                self.cut_off += 1
                self.stopping.wait(0.01)
                continue
            if response.status == 200:
                self.acknowledged[crash_id_in(response)] = report.annotations["Serial"]
            else:
                self.refused.append(response)
            if rest:
                self.stopping.wait(rest)


@contextmanager
def load(*ports: int, clients: int = 6, shapes: Sequence[Sequence[int]] = (SMALL,), rest: float = 0) -> Iterator[Load]:
    """
    Under it, clients post to each port in turn. Afterwards none does any more.

    @param shapes: the sizes of the dumps of one report after the other.
    @param rest: seconds that each client waits after an answer.
    """
    found = Load()
    run = uuid4().hex[:8]
    threads = [
        Thread(target=found.post_until_stopped, args=(ports[n % len(ports)], f"{run}-{n}", shapes, rest))
        for n in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.stopping.set()
        for thread in threads:
            thread.join()
