"""
Counts reports by product in the metrics, with a bounded number of labels.
"""

from collections.abc import Iterable

from collectord.index.tally import Tally
from collectord.metrics import PRODUCT_REPORTS

MOST = 50
"""Products with a label of their own. All that are seen later have a common one."""
OTHER = "other"
UNNAMED = "unnamed"
"""The label of reports without a product."""


class ProductCounter:
    """
    Counts what was tallied. It is for one process only: the labels are bounded once for the whole daemon.

    @param expected: products that have a label in any case.
    """

    def __init__(self, expected: Iterable[str] = ()) -> None:
        self._labels = {"": UNNAMED, **{product: product for product in list(expected)[:MOST]}}

    def note(self, tally: Tally) -> None:
        """Count reports."""
        counts, _ = tally
        for _, product, _, seen, kept in counts:
            label = self._label(product, is_kept=kept > 0)
            PRODUCT_REPORTS.labels(label, "kept").inc(kept)
            PRODUCT_REPORTS.labels(label, "not_kept").inc(seen - kept)

    def _label(self, product: str, *, is_kept: bool) -> str:
        """Return the label of a product. One of which no report was ever kept gets none: anybody may send any name."""
        label = self._labels.get(product)
        if label is None and is_kept and len(self._labels) <= MOST:
            label = self._labels[product] = product
        return label or OTHER
