from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from collectord.errors import StorageError
from tests.support.adminserver import CRASH_ID
from tests.unit.admin.adminwire import Admin
from tests.unit.intake.parts import LogRecorder

PATH = f"/crashes/{CRASH_ID}/dumps/upload_file_minidump"
BEARER = "Authorization: Bearer s3cret"


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.admin.site.is_near", lambda request: True)


@pytest.mark.usefixtures("near")
def test_a_dump() -> None:
    response = Admin().ask(PATH)
    assert (response.status, response.body) == (200, b"MDMPrest")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"] == f'attachment; filename="{CRASH_ID}.upload_file_minidump"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert Admin().ask(PATH, method="HEAD").status == 200


def test_with_the_token_from_anywhere() -> None:
    admin = Admin(token="s3cret")
    assert admin.ask(PATH, BEARER).body == b"MDMPrest"
    assert admin.ask(PATH).status == 401


def test_without_a_token_for_this_host_only() -> None:
    assert Admin().ask(PATH).status == 403


def test_off_by_the_settings() -> None:
    admin = Admin(token="s3cret", downloads=False)
    assert admin.ask(PATH, BEARER).status == 404
    assert b"/dumps/" not in admin.ask(f"/crashes/{CRASH_ID}", BEARER).body


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize("name", ["other", "..", "%2e%2e%2fx", "a%0d%0ab"])
def test_what_is_not_there(name: str) -> None:
    assert Admin().ask(f"/crashes/{CRASH_ID}/dumps/{name}").status == 404


class Gated:
    """Content whose second piece comes when C{gate} fires; its third is an error, if one is wanted."""

    def __init__(self, error: bool = False) -> None:
        self.gate: Deferred[None] = Deferred()
        self._error = error

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"MDMP"
        await self.gate
        yield b"re"
        if self._error:
            raise StorageError("gone")
        yield b"st"


def asked_for(content: Any) -> Any:
    admin = Admin()
    admin.source.content = content
    browser = admin.connect()
    browser.send(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return browser


@pytest.mark.usefixtures("near")
def test_a_client_that_reads_slowly_is_waited_for() -> None:
    content = Gated()
    browser = asked_for(content)
    browser.take_nothing()
    content.gate.callback(None)
    assert browser.received.endswith(b"MDMPre")
    browser.take_all()
    assert browser.received.endswith(b"MDMPrest")


@pytest.mark.usefixtures("near")
def test_a_part_of_a_dump_does_not_look_like_the_whole(log: LogRecorder) -> None:
    content = Gated(error=True)
    browser = asked_for(content)
    content.gate.callback(None)
    assert browser.aborted
    browser.hang_up()
    assert [event["why"].args for event in log.events if "why" in event] == [("gone",)]
