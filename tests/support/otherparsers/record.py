"""Records what other parsers make of the odd bodies."""

from tests.support.otherparsers import record

record()
