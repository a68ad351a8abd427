"""
How many connections the admin port has.
"""

import pytest

from tests.unit.admin.adminwire import Admin


def test_the_oldest_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """So whoever comes is served, and no crash lacks a file."""
    monkeypatch.setattr("collectord.admin.server._MOST", 8)
    admin = Admin()
    browsers = [admin.connect() for _ in range(8)]
    assert not any(browser.aborted for browser in browsers)
    browsers[0].hang_up()
    browsers.append(admin.connect())
    assert not any(browser.aborted for browser in browsers[1:])
    browsers.append(admin.connect())
    assert [browser.aborted for browser in browsers[1:]] == [True] + [False] * 8
