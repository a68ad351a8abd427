from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred

from collectord.errors import StorageError
from tests.support.adminserver import CRASH_ID
from tests.support.cases import for_each
from tests.unit.admin.adminwire import Admin
from tests.unit.intake.parts import LogRecorder

PATH = f"/crashes/{CRASH_ID}/dumps/upload_file_minidump"
BEARER = "Authorization: Bearer s3cret"
NEAR = IPv4Address("TCP", "127.0.0.1", 50000)
FAR = IPv4Address("TCP", "192.0.2.7", 50000)


def test_a_dump() -> None:
    response = Admin(client=NEAR).ask(PATH)
    assert (response.status, response.body) == (200, b"MDMPrest")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"] == f'attachment; filename="{CRASH_ID}.upload_file_minidump"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert Admin(client=NEAR).ask(PATH, method="HEAD").status == 200


def test_with_the_token_from_anywhere() -> None:
    admin = Admin(token="s3cret")
    assert admin.ask(PATH, BEARER).body == b"MDMPrest"
    assert admin.ask(PATH).status == 401


def test_without_a_token_for_this_host_only() -> None:
    assert Admin(client=FAR).ask(PATH).status == 403


def test_what_a_proxy_here_passes_on_is_not_from_this_host() -> None:
    for allow_open in (False, True):
        answer = Admin(client=NEAR, allow_open=allow_open).ask(PATH, "X-Forwarded-For: 192.0.2.7")
        assert (answer.status, b"MDMP" in answer.body) == (403, False)
    assert Admin(client=NEAR, token="s3cret").ask(PATH, "Via: 1.1 proxy", BEARER).body == b"MDMPrest"


def test_off_by_the_settings() -> None:
    admin = Admin(token="s3cret", downloads=False)
    assert admin.ask(PATH, BEARER).status == 404
    assert b"/dumps/" not in admin.ask(f"/crashes/{CRASH_ID}", BEARER).body


@for_each("name", ["other", "..", "%2e%2e%2fx", "a%0d%0ab"])
def test_what_is_not_there(name: str) -> None:
    assert Admin(client=NEAR).ask(f"/crashes/{CRASH_ID}/dumps/{name}").status == 404


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
    admin = Admin(client=NEAR)
    admin.source.content = content
    browser = admin.connect()
    browser.send(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return browser


def test_a_client_that_reads_slowly_is_waited_for() -> None:
    content = Gated()
    browser = asked_for(content)
    browser.take_nothing()
    content.gate.callback(None)
    assert browser.received.endswith(b"MDMPre")
    browser.take_all()
    assert browser.received.endswith(b"MDMPrest")


def test_a_part_of_a_dump_does_not_look_like_the_whole(log: LogRecorder) -> None:
    content = Gated(error=True)
    browser = asked_for(content)
    content.gate.callback(None)
    assert browser.aborted
    browser.hang_up()
    assert [event["why"].args for event in log.events if "why" in event] == [("gone",)]
