"""
The command beside a real daemon and a real queue: it tries the queue, and publishes ids again that the queue has lost.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from tests.e2e.test_e2e_command import collectord
from tests.e2e.test_e2e_crashmover import files_of_crashes, submit
from tests.support.brokers import RedisServer, missing
from tests.support.daemon import Daemon, config, free_port
from tests.support.wait import until

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(missing("redis-server")), reason=missing("redis-server"))]


def test_ids_are_published_again_that_a_queue_has_lost(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    source, port = tmp_path / "source", free_port()
    with RedisServer(tmp_path / "redis" / "output") as broker:
        settings = (
            config(port, source, moves=True)
            + "[crashmover]\ninterval_s = 0.5\n[[crashmover.destination]]\n"
            + f'type = "filesystem"\nroot = {json.dumps(str(tmp_path / "there"))}\nmin_free_bytes = 0\n'
            + f'[[crashmover.publisher]]\ntype = "redis"\nurl = "redis://127.0.0.1:{broker.port}/0"\n'
        )
        path = tmp_path / "collectord.toml"
        path.write_text(settings)
        path.chmod(0o600)
        with Daemon(settings, port, tmp_path / "work") as daemon:
            acknowledged = submit(daemon, *(f"n{n}" for n in range(20)))
            until(lambda: not files_of_crashes(source), 60)
            broker.answer("FLUSHALL")
            today = f"{datetime.now(UTC):%Y%m%d}"
            until(lambda: len(collectord("republish", today, "--dry-run", "-c", path).stdout.split()) == 20)
            again = collectord("republish", today, "-c", path)
            assert (again.status, again.stdout) == (0, "20 ids published again\n"), again.stderr
            with Redis(port=broker.port) as client:
                found = {entry[b"crash_id"].decode() for _, entry in client.xrange("socorro.standard")}
            assert found == acknowledged.keys()
        tried = collectord("check-config", "--connect", "-c", path, "--json").json()
        assert [(each["kind"], each["problem"]) for each in tried["connected"]] == [
            ("destination", ""),
            ("publisher", ""),
        ]
        broker.kill()
        tried_again = collectord("check-config", "--connect", "-c", path)
        assert tried_again.status == 1
        assert "redis socorro.standard: Error 111 connecting to" in tried_again.stderr
        assert "The settings can be used" not in tried_again.stdout
        away = collectord("republish", today, "-c", path)
        assert (away.status, "Error 111 connecting to" in away.stderr) == (2, True)
