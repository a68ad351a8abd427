"""Fixtures of the tests of the HTTP destination."""

from tests.support.wirefixtures import clocked, server

__all__ = ["clocked", "server"]
