"""Fixtures of the tests of the stores."""

from tests.unit.storage.stores import logged_failures, rig, root, told

__all__ = ["logged_failures", "rig", "root", "told"]
