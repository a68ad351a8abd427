"""
What is logged as a failure fails the test, unless the test clears it away.
"""

from tests.unit.intake.conftest import log

__all__ = ["log"]
