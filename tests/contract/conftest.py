"""Fixtures of the contract tests."""

from tests.unit.storage.stores import logged_failures, stores_end

__all__ = ["logged_failures", "stores_end"]
