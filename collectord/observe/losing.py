"""
Whether crashes are being lost: no store takes any, and reports are answered 503.
"""

from twisted.logger import Logger

from collectord.observe.status import Loss


class LossWatch:
    """
    Says so when it begins, and when it ends.

    @ivar loss: None: none is lost.
    """

    _log = Logger()

    def __init__(self) -> None:
        self.loss: Loss | None = None
        self._refused_before = 0

    def note(self, now: float, losing: bool, refused: int) -> None:
        """
        How it is now.

        @param refused: reports that were answered 503 since the start.
        """
        if losing:
            if self.loss is None:
                self._refused_before = refused
                self._log.error("CRASHES ARE BEING LOST: no store takes any, and reports are answered 503")
            since = self.loss.since if self.loss is not None else now
            self.loss = Loss(since=since, refused=max(0, refused - self._refused_before))
        elif self.loss is not None:
            self._log.error(
                "crashes are kept again after {seconds:.0f} s; reports answered 503 meanwhile: {refused}",
                seconds=now - self.loss.since,
                refused=max(0, refused - self._refused_before),
            )
            self.loss = None
