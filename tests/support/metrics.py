"""
What a daemon counts, as its admin port tells it.
"""

from collections import Counter
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import Daemon
from tests.support.wait import until


class NotesCount:
    """
    How many notes of each kind a daemon has counted since this was made.

    @param daemon: the port of its admin site is C{ADMIN} in its environment.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._url = f"http://127.0.0.1:{daemon.env['ADMIN']}/metrics"
        self._before = self._now()

    def wait_for(self, **kinds: int) -> None:
        """
        Wait until it has counted so many of these kinds, and none of any other.

        @raise TimeoutError: it has not.
        """
        until(lambda: self._now() - self._before == Counter(kinds), timeout=10)

    def _now(self) -> Counter[str]:
        with urlopen(self._url, timeout=5) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples]
        return Counter({s.labels["kind"]: int(s.value) for s in samples if s.name == "collectord_notes_total"})
