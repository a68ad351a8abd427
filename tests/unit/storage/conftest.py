"""Fixtures of the tests of the stores."""

from tests.unit.storage.stores import logged_failures, reported, rig, rigs_end, root, stores_end

__all__ = ["logged_failures", "reported", "rig", "rigs_end", "root", "stores_end"]
