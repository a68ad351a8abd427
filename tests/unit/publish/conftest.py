"""Fixtures of the tests of the publishers."""

from tests.support.wirefixtures import clocked, server
from tests.unit.storage.stores import logged_failures, reported

__all__ = ["clocked", "logged_failures", "reported", "server"]
