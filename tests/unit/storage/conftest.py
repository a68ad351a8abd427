"""Fixtures of the tests of the stores."""

from tests.unit.storage.stores import logged_failures, reported, rig, root

__all__ = ["logged_failures", "reported", "rig", "root"]
