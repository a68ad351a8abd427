"""
Asks the index which fingerprints and which products are seen most.

All of it blocks.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from collectord.index.seen import HOUR_S, MINUTES_S
from collectord.index.values import FingerprintSeen, ProductSeen, ProductsSeen, SeenKept, TopFingerprints, TopOrder

_HOURS = 24
_RISING = 20
"""Reports in the last hour that a fingerprint needs to count as rising."""
_PRODUCTS = 20
"""The most versions of products that are told of one fingerprint."""

_SUMS = f"""
WITH
    day AS (SELECT fingerprint, sum(seen) AS seen FROM hours WHERE hour > :hour - {_HOURS} GROUP BY fingerprint),
    last AS (SELECT fingerprint, sum(seen) AS seen FROM minutes WHERE minute > :minute - 12 GROUP BY fingerprint)
SELECT day.fingerprint, coalesce(last.seen, 0) AS in_hour, day.seen AS in_day, first_seen
FROM day JOIN fingerprints USING (fingerprint) LEFT JOIN last USING (fingerprint)
WHERE fingerprint <> ''
"""
_ORDERS = {
    "hour": "in_hour > 0 ORDER BY in_hour DESC, in_day DESC",
    "day": "1 ORDER BY in_day DESC, in_hour DESC",
    "rising": f"in_hour >= {_RISING} ORDER BY in_hour * 23.0 / max(in_day - in_hour, 1) DESC, in_hour DESC",
    "new": "first_seen > :now - 86400 ORDER BY in_day DESC, in_hour DESC",
}
_FACTS = """
SELECT place, exception, exception_code, cpu, os, first_seen, last_seen, last_kept, last_kept_id,
    iif(sampled_last > :now - 3600, sampled_by, ''), iif(sampled_last > :now - 3600, sampled_since, NULL)
FROM fingerprints WHERE fingerprint = :fingerprint
"""


def top_fingerprints(database: sqlite3.Connection, now: float, order: TopOrder, limit: int) -> TopFingerprints:
    """
    Return the first fingerprints in an order.

    @param now: in seconds since the epoch.
    """
    values = {"hour": now // HOUR_S, "minute": now // MINUTES_S, "now": now, "limit": limit}
    chosen = f"SELECT fingerprint FROM ({_SUMS}) WHERE {_ORDERS[order]}, fingerprint LIMIT :limit"
    fingerprints = [fingerprint_seen(database, now, row[0]) for row in database.execute(chosen, values).fetchall()]
    (total,) = database.execute(
        "SELECT count(DISTINCT fingerprint) FROM hours WHERE hour > ? AND fingerprint <> ''", (now // HOUR_S - _HOURS,)
    ).fetchone()
    return TopFingerprints(order=order, fingerprints=[each for each in fingerprints if each is not None], total=total)


def fingerprint_seen(database: sqlite3.Connection, now: float, fingerprint: str) -> FingerprintSeen | None:
    """Return how often a fingerprint was seen; None: it never was."""
    facts = database.execute(_FACTS, {"now": now, "fingerprint": fingerprint}).fetchone()
    if facts is None:
        return None
    products = _products(database, now, "fingerprint = :fingerprint", fingerprint)
    place, exception, code, cpu, os, first, last, kept, kept_id, rule, since = facts
    return FingerprintSeen(
        fingerprint=fingerprint,
        place=place,
        exception=exception,
        exception_code=code,
        cpu=cpu,
        os=os,
        products=products[:_PRODUCTS],
        hourly=_summed([product.hourly for product in products]),
        hour=sum((product.hour for product in products), SeenKept()),
        day=sum((product.day for product in products), SeenKept()),
        first_seen=first,
        last_seen=last,
        last_kept=kept,
        last_kept_id=kept_id,
        sampled_by=rule,
        sampled_since=since,
    )


def products_seen(database: sqlite3.Connection, now: float, limit: int) -> ProductsSeen:
    """Return how often each version of each product was seen in the last 24 hours, the most seen first."""
    products = _products(database, now, "1", "")
    shown, others = products[:limit], products[limit:]
    return ProductsSeen(
        products=shown,
        others=len(others),
        others_hourly=_summed([product.hourly for product in others]),
        others_hour=sum((product.hour for product in others), SeenKept()),
        others_day=sum((product.day for product in others), SeenKept()),
    )


def reports_in_hour(database: sqlite3.Connection, now: float) -> SeenKept:
    """Return how many reports were seen in the last hour."""
    return SeenKept(
        *database.execute(
            "SELECT coalesce(sum(seen), 0), coalesce(sum(kept), 0) FROM minutes WHERE minute > ?",
            (now // MINUTES_S - 12,),
        ).fetchone()
    )


def _products(database: sqlite3.Connection, now: float, which: str, fingerprint: str) -> list[ProductSeen]:
    """Return how often each version was seen, of the rows for which C{which} holds."""
    hour, values = int(now // HOUR_S), {"fingerprint": fingerprint, "hour": now // HOUR_S, "minute": now // MINUTES_S}
    hourly: dict[tuple[str, str], list[SeenKept]] = {}
    for product, version, at, seen, kept in database.execute(
        "SELECT product, version, hour, sum(seen), sum(kept) FROM hours"
        f" WHERE hour > :hour - {_HOURS} AND hour <= :hour AND seen > 0 AND {which} GROUP BY product, version, hour",
        values,
    ):
        of_product = hourly.setdefault((product, version), [SeenKept()] * _HOURS)
        of_product[at - hour + _HOURS - 1] = SeenKept(seen, kept)
    last = {
        (product, version): SeenKept(seen, kept)
        for product, version, seen, kept in database.execute(
            "SELECT product, version, sum(seen), sum(kept) FROM minutes"
            f" WHERE minute > :minute - 12 AND {which} GROUP BY product, version",
            values,
        )
    }
    first = _first_seen(database, fingerprint)
    found = [
        ProductSeen(
            product=product,
            version=version,
            hourly=slots,
            hour=last.get((product, version), SeenKept()),
            day=sum(slots, SeenKept()),
            first_seen=first.get((product, version)),
        )
        for (product, version), slots in hourly.items()
    ]
    return sorted(found, key=lambda each: (-each.day.seen, each.product, each.version))


def _first_seen(database: sqlite3.Connection, fingerprint: str) -> dict[tuple[str, str], float]:
    """Return when each version was first seen with a fingerprint. Only the hour of that is known, but of the first."""
    rows: Sequence[Any] = database.execute(
        "SELECT product, version, max(min(hour) * 3600.0, first_seen) FROM hours JOIN fingerprints USING (fingerprint)"
        " WHERE fingerprint = ? AND fingerprint <> '' GROUP BY product, version",
        (fingerprint,),
    ).fetchall()
    return {(product, version): first for product, version, first in rows}


def _summed(hourly: Sequence[Sequence[SeenKept]]) -> list[SeenKept]:
    return [sum(slots, SeenKept()) for slots in zip(*hourly, strict=True)]
