"""
A link to the bucket that is too slow for the crashes that are moved at the same time: all of them arrive nevertheless.
"""

from pathlib import Path

import pytest

from tests.e2e.test_e2e_crashmover import files_of_crashes
from tests.support.buckets import kept_in
from tests.support.daemon import Daemon, config, free_port
from tests.support.fakes3 import FakeS3
from tests.support.http import post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.slowlink import SlowLink
from tests.support.wait import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

MIB = 1024 * 1024
SIZE = 12 * MIB
CRASHES = 2


def test_crashes_that_take_longer_than_their_time_limit(tmp_path: Path) -> None:
    """Alone, each takes three times as long. So it counts that what has arrived is not sent again."""
    source, port = tmp_path / "source", free_port()
    with FakeS3() as server, SlowLink(int(server.url.rpartition(":")[2]), rate=4 * MIB) as link:
        destination = (
            f'type = "s3"\nbucket = "crashes"\nendpoint_url = "{link.url}"\naccess_key = "A"\nsecret_key = "s"\n'
            f"multipart_bytes = {5 * MIB}\ntimeout_s = 1.0\n"
        )
        toml = f"{config(port, source, moves=True)}[crashmover]\n[[crashmover.destination]]\n{destination}"
        with Daemon(toml, port, tmp_path / "work"):
            reports = [make_report(f"n{n}", SIZE) for n in range(CRASHES)]
            crash_ids = [crash_id_in(post(port, report.body(), HEADERS)) for report in reports]
            until(lambda: not files_of_crashes(source), 60)
        for crash_id, report in zip(crash_ids, reports, strict=True):
            kept = kept_in(server.objects, crash_id)
            assert kept is not None
            assert kept.dumps == report.dumps
        assert server.uploads == {}
        assert link.sent < (CRASHES * SIZE) * 1.1
