"""
A daemon that moves a crash to S3 is killed at each of its requests, and the next one finishes what it began.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define

from tests.e2e.test_e2e_crashmover import files_of_crashes
from tests.support.buckets import kept_in
from tests.support.daemon import Daemon, config, free_port
from tests.support.fakes3 import Asked, FakeS3, HangUp, Said
from tests.support.http import Part, multipart, post
from tests.support.reports import BOUNDARY, HEADERS, crash_id_in
from tests.support.wait import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 1024 * 1024
LARGE = os.urandom(9 * MIB)
STEPS = ["list", "create", "part 1", "part 2", "complete", "names", "raw crash"]
"""The requests that move the crash."""


@define
class Killer:
    """
    Kills the daemon at one of its requests, once the server has done what it was asked for and before it says so.

    @ivar at: the number of the request, of those that move the crash; None: it was killed.
    """

    daemon: Daemon
    at: int | None = None
    _seen: int = 0

    def aim(self, at: int) -> None:
        """Kill it at this request, from now on."""
        self.at, self._seen = at, 0

    def __call__(self, asked: Asked, said: Said) -> Said:
        self._seen += "/v1/check/" not in asked.path
        if self.at is not None and self._seen > self.at:
            self.daemon.kill()
            self.at = None
            raise HangUp
        return said


@pytest.fixture
def server() -> Iterator[FakeS3]:
    with FakeS3() as server:
        yield server


def test_killed_at_each_request(tmp_path: Path, server: FakeS3) -> None:
    source, port = tmp_path / "source", free_port()
    destination = (
        f'type = "s3"\nbucket = "crashes"\nendpoint_url = "{server.url}"\naccess_key = "A"\nsecret_key = "s"\n'
        f"multipart_bytes = {5 * MIB}\n"
    )
    toml = f"{config(port, source, moves=True)}[crashmover]\n[[crashmover.destination]]\n{destination}"
    daemon = Daemon(toml, port, tmp_path / "work")
    killer = server.after = Killer(daemon)
    for number, step in enumerate(STEPS):
        killer.aim(number)
        with daemon:
            dump = Part("upload_file_minidump", LARGE, filename="x.dmp")
            body = multipart([Part("Serial", step.encode()), dump], BOUNDARY)
            crash_id = crash_id_in(post(port, body, HEADERS))
            until(lambda: killer.at is None, 30)
            assert files_of_crashes(source)
            daemon.start()
            until(lambda: not files_of_crashes(source), 30)
        kept = kept_in(server.objects, crash_id)
        assert kept is not None
        assert kept.raw_crash["Serial"] == step
        assert kept.dumps == {"upload_file_minidump": LARGE}
        assert server.uploads == {}
