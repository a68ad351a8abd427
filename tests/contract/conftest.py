"""Fixtures of the contract tests."""

from tests.unit.storage.stores import logged_failures

__all__ = ["logged_failures"]
