"""Fixtures of the tests of the crashmover."""

from tests.unit.storage.stores import logged_failures

__all__ = ["logged_failures"]
