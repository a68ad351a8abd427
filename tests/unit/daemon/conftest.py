"""Fixtures of the tests of the daemon."""

from tests.support.fakereactor import gauges_of_before, signals_of_before, threads_at_once
from tests.unit.storage.stores import logged_failures

__all__ = ["gauges_of_before", "logged_failures", "signals_of_before", "threads_at_once"]
