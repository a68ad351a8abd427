"""
Reading from one client: it stops while there is no room for more, or no time.
"""

from __future__ import annotations

from collections.abc import Callable

from collectord.intake.outgoing import Transport
from collectord.intake.timeouts import ConnectionSite, Progress


class Incoming:
    """
    Decides when a connection reads from its client. All of it is for the reactor thread.

    It is the L{collectord.intake.turns.Connection} that the receiver of a body gets.

    @ivar pauses: how many calls of L{pause} have not been taken back. While there are any, the client can't send.
    """

    def __init__(self, transport: Transport, site: ConnectionSite, progress: Progress) -> None:
        self._transport = transport
        self._site = site
        self._progress = progress
        self.pauses = 0
        self._is_dropped = False

    def pause(self) -> None:
        """Stop reading from the client. Pauses are counted, and a paused client is never taken for a slow one."""
        self.pauses += 1
        if self.pauses == 1 and not self._is_dropped:
            self._transport.pauseProducing()

    def resume(self) -> None:
        """Take back one call of L{pause}, and read on if it was the last."""
        self.pauses -= 1
        if self.pauses == 0 and not self._is_dropped:
            self._progress.restart(self._site.now())
            if not self._progress.is_held:
                self._transport.resumeProducing()

    def rest(self, go_on: Callable[[], None]) -> bool:
        """Whether its share of the reactor's time is used up. If so, C{go_on} is called when its next turn comes."""
        if not self._site.turns.is_over():
            return False
        self._site.turns.wait(go_on)
        return True

    def hold(self) -> None:
        """
        Read nothing until L{let_go}, because the client does not read its answers, which would fill the memory.

        This is no L{pause}: the client may be too slow now.
        """
        self._progress.is_held = True
        self._transport.pauseProducing()

    def let_go(self) -> None:
        """The client has read its answers. What it sends is read again, unless it is paused."""
        self._progress.is_held = False
        if self.pauses and not self._is_dropped:
            self._transport.pauseProducing()

    def drop(self) -> None:
        """Read on from now on, whoever pauses it: what comes is dropped."""
        self._is_dropped = True
        self._transport.resumeProducing()
