"""
Remembers since when there are troubles.
"""

from collections.abc import Mapping, Sequence

from collectord.observe.trouble import Trouble


class TroubleTimes:
    """
    Remembers when each trouble was noticed, as long as it lasts.

    @ivar since: in seconds since the epoch, by the key of the trouble.
    """

    def __init__(self) -> None:
        self.since: Mapping[str, float] = {}

    def note(self, now: float, troubles: Sequence[Trouble]) -> None:
        """Take the troubles that there are now; call this again and again."""
        self.since = {trouble.key: self.since.get(trouble.key, now) for trouble in troubles}
