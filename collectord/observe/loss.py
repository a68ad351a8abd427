"""
Tells the operator when crashes are being lost, that is, while no store takes any and reports are answered 503.
"""

from twisted.logger import Logger

from collectord.observe.status import Loss


class LossWatch:
    """
    Logs an error when crashes begin to be lost and when they are kept again, and remembers since when.

    @ivar loss: since when, and how many reports were refused since; None while no crash is lost.
    """

    _log = Logger()

    def __init__(self) -> None:
        self.loss: Loss | None = None
        self._refused_before = 0

    def note(self, now: float, losing: bool, refused: int) -> None:
        """
        Take the present state; call this again and again.

        @param now: in seconds since the epoch.
        @param losing: whether no store takes crashes.
        @param refused: how many reports were answered 503 since the start of the daemon.
        """
        if losing:
            if self.loss is None:  # What was refused since the state was taken last was part of it already.
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
        if not losing:
            self._refused_before = refused
