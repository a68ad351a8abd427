"""
The crashmover of a real daemon with a real S3 server and real queues, which come late, are killed, and come back.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from attrs import frozen

from tests.e2e.test_e2e_crashmover import files_of_crashes, submit
from tests.support.brokers import RabbitServer, RedisServer, missing, rabbit_server, rabbitmq_url, taken_from
from tests.support.buckets import kept_in
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import StoredCrash
from tests.support.reports import is_whole
from tests.support.s3server import S3Server
from tests.support.wait import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

BUCKET = "crashes"
QUEUE = "socorro.standard"
CONCURRENCY = 8
_DURABLE_S = 6.0
"""A kill just after a queue was declared was seen to lose the queue, and all that the broker had confirmed."""


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "moto.log") as server:
        yield server


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    """Its start takes longer than a test; each takes what it has put there."""
    lacking = missing("rabbitmq-server", "setpriv")
    if lacking:
        pytest.skip(lacking)
    with rabbit_server() as broker:
        yield broker


def table(name: str, **values: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[[crashmover.{name}]]", *lines, ""])


def settings(port: int, source: Path, s3: S3Server, rabbit: RabbitServer, *more: str) -> str:
    return "\n".join(
        [
            config(port, source, moves=True),
            f"[crashmover]\ninterval_s = 1.0\nconcurrency = {CONCURRENCY}",
            table(
                "destination",
                type="s3",
                bucket=BUCKET,
                endpoint_url=s3.url,
                region="us-east-1",
                access_key=s3.access_key,
                secret_key=s3.secret_key,
            ),
            table("publisher", type="rabbitmq", url=rabbitmq_url(rabbit.port), queue=QUEUE, timeout_s=5.0),
            *more,
        ]
    )


def whole_in(s3: S3Server, acknowledged: Mapping[str, str]) -> None:
    """Every crash is in the bucket, to the byte, as a Socorro processor reads it."""
    objects = s3.objects(BUCKET)
    for crash_id, serial in acknowledged.items():
        kept = kept_in(objects, crash_id)
        assert kept is not None, f"{crash_id} is lost"
        assert kept.raw_crash["Serial"] == serial
        assert is_whole(StoredCrash(kept.raw_crash, kept.dumps)), crash_id


def test_a_bucket_that_comes_late_and_a_broker_that_is_killed_and_comes_back(
    tmp_path: Path, s3: S3Server, rabbit: RabbitServer
) -> None:
    source, port = tmp_path / "source", free_port()
    with Daemon(settings(port, source, s3, rabbit), port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, *(f"early-{n}" for n in range(10)))
        until(lambda: f"s3://{BUCKET} failed; trying again in" in daemon.log())
        until(lambda: "NoSuchBucket" in daemon.log())
        until(lambda: f"rabbitmq {QUEUE} is ready" in daemon.log())
        time.sleep(_DURABLE_S)
        assert s3.secret_key not in daemon.log()
        s3.client().create_bucket(Bucket=BUCKET)
        acknowledged |= submit(daemon, *(f"later-{n}" for n in range(200)))
        until(lambda: len(s3.objects(BUCKET)) > 100, 60)
        rabbit.kill()
        acknowledged |= submit(daemon, *(f"without-{n}" for n in range(20)))
        until(lambda: f"rabbitmq {QUEUE} failed; trying again in" in daemon.log())
        acknowledged |= submit(daemon, *(f"still-without-{n}" for n in range(20)))
        until(lambda: not files_of_crashes(source), 60)  # they are in the bucket, and their ids are remembered
        whole_in(s3, acknowledged)
        assert list(source.glob("unpublished/*/*/*.json"))
        rabbit.start()
        until(lambda: not list(source.glob("unpublished/*/*/*.json")), 90)
    published = [crash_id for crash_id, _ in taken_from(rabbit.port, QUEUE)]
    assert set(published) == acknowledged.keys()
    assert len(published) - len(set(published)) <= CONCURRENCY  # what the broker took and had not confirmed


def test_without_an_outage_every_id_is_told_once(tmp_path: Path, s3: S3Server, rabbit: RabbitServer) -> None:
    lacking = missing("redis-server")
    if lacking:
        pytest.skip(lacking)
    s3.client().create_bucket(Bucket=BUCKET)
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis" / "output") as broker:
        source, port = tmp_path / "source", free_port()
        more = table("publisher", type="redis", url=f"redis://127.0.0.1:{broker.port}/0")
        with Daemon(settings(port, source, s3, rabbit, more), port, tmp_path / "work") as daemon:
            acknowledged = submit(daemon, *(f"n{n}" for n in range(50)))
            until(lambda: not files_of_crashes(source), 60)
        whole_in(s3, acknowledged)
        assert sorted(crash_id for crash_id, _ in taken_from(rabbit.port, QUEUE)) == sorted(acknowledged)


def test_deferred_crashes_are_moved_and_not_told(tmp_path: Path, s3: S3Server, rabbit: RabbitServer) -> None:
    s3.client().create_bucket(Bucket=BUCKET)
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "later"\nkey = "*"\nresult = "defer"\n')
    source, port = tmp_path / "source", free_port()
    throttle = f"[throttle]\nrules = {json.dumps(str(rules))}\n"
    with Daemon(throttle + settings(port, source, s3, rabbit), port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, "one", "two", "three")
        until(lambda: not files_of_crashes(source), 30)
    whole_in(s3, acknowledged)
    assert taken_from(rabbit.port, QUEUE) == []


def test_a_crash_that_was_moved_is_found_brought_back_and_erased(tmp_path: Path, s3: S3Server) -> None:
    s3.client().create_bucket(Bucket=BUCKET)
    source, port = tmp_path / "source", free_port()
    with S3Only(port, source, s3).daemon(tmp_path / "work") as daemon:
        acknowledged = submit(daemon, "one", "two")
        until(lambda: not files_of_crashes(source), 60)
        toml = daemon.toml_path
    crash_id = min(acknowledged)

    def collectord(*args: str) -> str:
        command = [str(Path(sys.executable).with_name("collectord")), *args, "--config", str(toml)]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout

    assert f"s3://{BUCKET}/v1/raw_crash/20{crash_id[-6:]}/{crash_id}" in collectord("crashes", "show", crash_id)
    collectord("fetch", crash_id, "--to", "back")
    raw_crash = json.loads((tmp_path / "back" / f"{crash_id}.json").read_bytes())
    assert raw_crash["Serial"] == acknowledged[crash_id]
    kept = kept_in(s3.objects(BUCKET), crash_id)
    assert kept is not None
    assert (tmp_path / "back" / f"{crash_id}.dump").read_bytes() == kept.dumps["upload_file_minidump"]
    assert f"erased from s3://{BUCKET}" in collectord("crashes", "erase", "--yes", crash_id)
    assert not any(crash_id in key for key in s3.objects(BUCKET))


@frozen
class S3Only:
    """A daemon that moves crashes to a bucket, and has a journal."""

    port: int
    source: Path
    s3: S3Server

    def daemon(self, work: Path) -> Daemon:
        s3 = self.s3
        keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
        there = table("destination", type="s3", bucket=BUCKET, endpoint_url=s3.url, region="us-east-1", **keys)
        journal = f"[ledger]\ndirectory = {json.dumps(str(work / 'journals'))}\n"
        toml = f"{config(self.port, self.source, moves=True)}\n[crashmover]\n{there}{journal}"
        return Daemon(toml, self.port, work)
