"""
The crashmover of a real daemon: every crash arrives, whole and once, and the source is empty in the end.
"""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from collectord.model import COLLECTOR_NAMES
from collectord.storage.filesystem.unpublished import directory_of
from tests.e2e.test_e2e_settings import complaint, twistd
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.http import Part, multipart, post
from tests.support.mounts import can_mount, tmpfs
from tests.support.reports import BOUNDARY, HEADERS, crash_id_in, harm, make_report
from tests.support.wait import until

pytestmark = pytest.mark.e2e


def moving(root: Path, *, more: str = "", destination: str = "") -> str:
    """Settings of a crashmover to a file system."""
    return (
        f"[crashmover]\ninterval_s = 1.0\n{more}\n[[crashmover.destination]]\n"
        f'type = "filesystem"\nroot = {json.dumps(str(root))}\nmin_free_bytes = 0\n{destination}\n'
    )


def submit(daemon: Daemon, *serials: str, size: int = 5000) -> dict[str, str]:
    """The serial annotation of each crash id."""

    def one(serial: str) -> tuple[str, str]:
        report = make_report(serial, size, 100)
        return crash_id_in(post(daemon.port, report.body(), HEADERS)), report.annotations["Serial"]

    with ThreadPoolExecutor(8) as pool:
        return dict(pool.map(one, serials))


def until_moved(source: Path, acknowledged: Mapping[str, str], destination: Path, timeout: float = 30) -> None:
    """Until nothing is left in the source; then everything is whole at the destination."""
    until(lambda: not files_of_crashes(source), timeout)
    assert list(harm(acknowledged, destination)) == []


def files_of_crashes(root: Path) -> list[Path]:
    return [path for path in root.glob("[0-9]*/**/*") if path.is_symlink() or not path.is_dir()]


def test_moved_within_a_second(tmp_path: Path) -> None:
    source, destination = tmp_path / "crashes", tmp_path / "processing"
    port = free_port()
    toml = config(port, source, moves=True) + moving(destination).replace("interval_s = 1.0", "interval_s = 3600.0")
    with Daemon(toml, port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, "one", "two", "three")
        until(lambda: len(stored_crashes(destination)) == 3, timeout=2)
        until_moved(source, acknowledged, destination)


def test_what_was_there_before_the_start(tmp_path: Path) -> None:
    source, destination = tmp_path / "crashes", tmp_path / "processing"
    port = free_port()
    with Daemon(config(port, source), port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(20)))
        assert len(stored_crashes(source)) == 20
    with Daemon(config(port, source, moves=True) + moving(destination), port, tmp_path / "work"):
        until_moved(source, acknowledged, destination)


@pytest.mark.parametrize("home", [True, False], ids=["home", "to a destination"])
def test_a_store_that_is_full_when_the_daemon_starts_is_emptied(tmp_path: Path, home: bool) -> None:
    """Only what moves its crashes makes it healthy again."""
    port = free_port()
    primary, full, destination = tmp_path / "primary", tmp_path / "full", tmp_path / "processing"
    with Daemon(config(port, full), port, tmp_path / "before") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(5)))
    toml = config(port, primary, full, moves=True) + ("" if home else moving(destination))
    space = f"root = {json.dumps(str(full))}\nmin_free_bytes = "
    assert f"{space}0" in toml
    with Daemon(toml.replace(f"{space}0", f"{space}{2**60}"), port, tmp_path / "work"):
        until_moved(full, acknowledged, primary if home else destination)


def test_keep(tmp_path: Path) -> None:
    source, destination = tmp_path / "crashes", tmp_path / "processing"
    port = free_port()
    with Daemon(
        config(port, source, moves=True) + moving(destination, more="keep = true"), port, tmp_path / "work"
    ) as daemon:
        acknowledged = submit(daemon, "one", "two")
        until(lambda: not list(source.glob("*/date/*/*/*")))
        assert list(harm(acknowledged, destination)) == []
        assert stored_crashes(source).keys() == acknowledged.keys()


def test_broken_crashes_go_to_the_quarantine_and_the_others_are_moved(tmp_path: Path) -> None:
    source, destination = tmp_path / "crashes", tmp_path / "processing"
    port = free_port()
    with Daemon(config(port, source), port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(5)))
    broken, *_ = acknowledged
    [dump] = source.glob(f"*/name/*/*/{broken}.dump")
    dump.write_bytes(b"MDMP something else")
    with Daemon(config(port, source, moves=True) + moving(destination), port, tmp_path / "work") as daemon:
        del acknowledged[broken]
        until_moved(source, acknowledged, destination)
        until(lambda: f"{broken} is in the quarantine" in daemon.log())
    assert "checksum" in (source / "quarantine" / broken / "reason.txt").read_text()
    assert (source / "quarantine" / broken / f"{broken}.json").exists()


def test_a_thousand_moves_with_kills(tmp_path: Path) -> None:
    source, destination = tmp_path / "crashes", tmp_path / "processing"
    port = free_port()
    with Daemon(config(port, source), port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(1000)), size=20_000)
    daemon = Daemon(config(port, source, moves=True) + moving(destination), port, tmp_path / "work")
    for part in (50, 250, 500):
        daemon.start()
        until(lambda part=part: len(list(destination.glob("*/name/*/*/*.json"))) >= part)  # type: ignore[misc]
        daemon.kill()
        assert len(files_of_crashes(source)) > 0
    with daemon:
        until_moved(source, acknowledged, destination)
    assert len(stored_crashes(destination)) == 1000


@pytest.mark.skipif(bool(can_mount()), reason=can_mount() or "-")
def test_a_full_destination_that_gets_space(tmp_path: Path) -> None:
    source, mount = tmp_path / "crashes", tmp_path / "mount"
    port = free_port()
    mount.mkdir()
    with tmpfs(mount, size=1_048_576) as destination:
        filler = destination / "filler"
        filler.write_bytes(bytes(900_000))
        toml = config(port, source, moves=True) + moving(destination / "in")
        with Daemon(toml, port, tmp_path / "work") as daemon:
            acknowledged = submit(daemon, *(f"n{n}" for n in range(10)), size=30_000)
            until(lambda: "failed; trying again in" in daemon.log())
            assert submit(daemon, "meanwhile")
            filler.unlink()
            until(lambda: not list(source.glob("*/date/*/*/*")), 40)
        assert [p for p in harm(acknowledged, destination / "in") if "lost" in p] == []


@pytest.mark.skipif(bool(can_mount()), reason=can_mount() or "-")
def test_a_fallback_of_destinations(tmp_path: Path) -> None:
    source, second = tmp_path / "crashes", tmp_path / "second"
    port = free_port()
    mount = tmp_path / "mount"
    mount.mkdir()
    with tmpfs(mount, size=1_048_576) as small:
        (small / "filler").write_bytes(bytes(900_000))
        tables = [{"type": "filesystem", "root": str(root), "min_free_bytes": 0} for root in (small / "in", second)]
        of = "".join(
            "[[crashmover.destination.of]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in table.items())
            for table in tables
        )
        toml = config(port, source, moves=True) + '[crashmover]\n[[crashmover.destination]]\ntype = "fallback"\n' + of
        with Daemon(toml, port, tmp_path / "work") as daemon:
            acknowledged = submit(daemon, *(f"n{n}" for n in range(10)), size=150_000)
            until_moved(source, acknowledged, second)
        assert stored_crashes(small / "in") == {}


@pytest.mark.skipif(bool(can_mount()), reason=can_mount() or "-")
def test_crashes_of_a_fallback_store_go_home(tmp_path: Path) -> None:
    secondary, mount = tmp_path / "second", tmp_path / "mount"
    port = free_port()
    mount.mkdir()
    with tmpfs(mount, size=2_097_152) as primary:
        (primary / "filler").write_bytes(bytes(2_060_000))
        root = primary / "crashes"
        with Daemon(config(port, root, secondary, moves=True), port, tmp_path / "work") as daemon:
            acknowledged = submit(daemon, *(f"n{n}" for n in range(10)), size=50_000)
            assert len(stored_crashes(secondary)) == 10
            (primary / "filler").unlink()
            until_moved(secondary, acknowledged, root)
            until(lambda: not problems(root))


def test_a_stop_in_the_middle_of_moves_is_clean(tmp_path: Path) -> None:
    source, destination = tmp_path / "crashes", tmp_path / "processing"
    port = free_port()
    with Daemon(config(port, source), port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(300)))
    daemon = Daemon(config(port, source, moves=True) + moving(destination), port, tmp_path / "work")
    daemon.start()
    until(lambda: len(list(destination.glob("*/name/*/*/*.json"))) >= 20)
    assert daemon.stop() == -signal.SIGTERM
    arrived, left = stored_crashes(destination), stored_crashes(source)
    assert left
    assert arrived.keys() | left.keys() == acknowledged.keys()
    assert arrived.keys() & left.keys() == set()
    assert problems(source) == problems(destination) == []
    with daemon:
        until_moved(source, acknowledged, destination)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "[[crashmover.destination]] 0 type is missing; known here: "),
        (
            'type = "ftp"',
            "[[crashmover.destination]] 0 type = 'ftp': there is none; known here: azure, fallback, filesystem, ",
        ),
        ('type = "filesystem"', "[[crashmover.destination]] 0 root: is missing"),
        (
            'type = "filesystem"\nroot = "x"\nrot = 1',
            "0 rot: unknown key; did you mean root?",
        ),
        ('type = "filesystem"\nroot = "x"\ntimeout_s = 0', "timeout_s: Input should be greater than 0"),
        ('type = "filesystem"\nroot = "x"\ndirectory_mode = "0600"', "the owner has to read, write and enter"),
        ('type = "filesystem"\nroot = "crashes"', "is the root of a [[storage]]"),
        ('type = "fallback"', "[[crashmover.destination]] 0 of: is missing"),
        (
            'type = "fallback"\nof = [{type = "filesystem", root = "x"}, {type = "ftp"}]',
            "[[crashmover.destination.of]] 1 type = 'ftp': there is none",
        ),
    ],
)
def test_destinations_that_can_t_be_made(tmp_path: Path, table: str, said: str) -> None:
    settings = tmp_path / "c.toml"
    settings.write_text(f"[crashmover]\n[[crashmover.destination]]\n{table}\n")
    status, output = twistd(tmp_path, "--config", str(settings))
    assert status == 1
    assert said in complaint(output)
    assert f"collectord: {settings}: [" in complaint(output)


def test_a_publisher_needs_a_destination(tmp_path: Path) -> None:
    settings = tmp_path / "c.toml"
    settings.write_text('[[crashmover.publisher]]\ntype = "redis"\nurl = "redis://:s3cret@localhost/"\n')
    status, output = twistd(tmp_path, "--config", str(settings))
    assert status == 1
    assert "a publisher needs a destination, since its queue says which crashes are there" in complaint(output)
    assert "s3cret" not in output


def test_one_table_instead_of_a_list_of_them(tmp_path: Path) -> None:
    settings = tmp_path / "c.toml"
    settings.write_text('[crashmover.destination]\ntype = "s3"\nsecret_key = "s3cret"\n')
    status, output = twistd(tmp_path, "--config", str(settings))
    assert status == 1
    assert "[crashmover] destination = …: has to be a list of tables: write [[crashmover.destination]] in" in complaint(
        output
    )
    assert "s3cret" not in output


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    settings = tmp_path / "c.toml"
    settings.write_text('[crashmover]\n[[crashmover.destination]]\ntype = "s3"\nbucket = "x"\n')
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "boto3.py").write_text("raise ModuleNotFoundError('no boto3', name='boto3')\n")
    path = os.pathsep.join([str(hidden), str(Path(__file__).parents[2])])
    status, output = twistd(tmp_path, "--config", str(settings), env={"PYTHONPATH": path})
    assert status == 1
    assert "the module boto3 is missing: pip install 'collectord[s3]'" in complaint(output)


def test_a_destination_that_is_the_store_by_another_path_takes_nothing(tmp_path: Path) -> None:
    source, alias, port = tmp_path / "crashes", tmp_path / "alias", free_port()
    with Daemon(config(port, source), port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, "before")
    alias.symlink_to(source)
    with Daemon(config(port, source, moves=True) + moving(alias), port, tmp_path / "work") as daemon:
        acknowledged |= submit(daemon, "one", "two")
        until(lambda: f": this is the store {source}, by another path" in daemon.log())
        time.sleep(2.5)
    assert list(harm(acknowledged, source)) == []


def test_two_stores_that_are_one_by_another_path_move_nothing_home(tmp_path: Path) -> None:
    source, alias, port = tmp_path / "crashes", tmp_path / "alias", free_port()
    source.mkdir(0o700)
    alias.symlink_to(source)
    with Daemon(config(port, source), port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, "before")
    with Daemon(config(port, source, alias, moves=True), port, tmp_path / "work") as daemon:
        acknowledged |= submit(daemon, "one", "two")
        until(lambda: f"{alias}: this is the store {source}, by another path" in daemon.log())
        time.sleep(2.5)
    assert list(harm(acknowledged, source)) == []


@pytest.mark.parametrize("shared", [False, True], ids=["itself", "another on its root"])
def test_a_relay_in_a_circle_takes_nothing(tmp_path: Path, shared: bool) -> None:
    source, port, other = tmp_path / "crashes", free_port(), free_port()
    to = other if shared else port
    relay = f'[[crashmover.destination]]\ntype = "http"\nurl = "http://127.0.0.1:{to}/submit"\ntoken = "secret"\n'
    token = 'submitter_token = "secret"'
    with (
        Daemon(config(other, source, submission=token), other, tmp_path / "other"),
        Daemon(config(port, source, submission=token, moves=True) + relay, port, tmp_path / "work") as daemon,
    ):
        acknowledged = submit(daemon, "one", "two")
        until(lambda: "409 Discarded=relay_loop" in daemon.log())
        time.sleep(2)
    assert list(harm(acknowledged, source)) == []


def test_a_relay_changes_no_annotation(tmp_path: Path) -> None:
    port, other, token = free_port(), free_port(), 'submitter_token = "secret"'
    relay = f'[[crashmover.destination]]\ntype = "http"\nurl = "http://127.0.0.1:{other}/submit"\ntoken = "secret"\n'
    toml = config(port, tmp_path / "crashes", submission=token, moves=True) + "[crashmover]\nkeep = true\n" + relay
    reports = [
        [Part("version", b"3.4.5"), Part("client_version", b"2"), Part("uuid", b"a device"), Part("metadata", b"{}")],
        [Part("_charset_", b"windows-1252"), Part("a", b"caf\xe9 \x80")],
        [Part("extra", b'{"a": 1.10, "a": "\\ud800", "b": "cut', "extra.json", "application/json")],
        [Part("a", b"caf\xe9", content_type="text/plain; charset=latin1"), Part("b", b"caf\xe9 au lait")],
    ]
    with (
        Daemon(config(other, tmp_path / "other", submission=token), other, tmp_path / "b"),
        Daemon(toml, port, tmp_path / "a"),
    ):
        dump = Part("upload_file_minidump", b"MDMP\xff", "a.dmp", "application/octet-stream")
        ids = [crash_id_in(post(port, multipart([*parts, dump], BOUNDARY), HEADERS)) for parts in reports]
        until(lambda: set(stored_crashes(tmp_path / "other")) == set(ids))
    first, second = stored_crashes(tmp_path / "crashes"), stored_crashes(tmp_path / "other")
    own = COLLECTOR_NAMES - {"uuid"}
    for crash_id in ids:
        sent, arrived = (
            {name: value for name, value in crashes[crash_id].raw_crash.items() if name not in own}
            for crashes in (first, second)
        )
        assert arrived == sent
        assert second[crash_id].dumps == first[crash_id].dumps
    assert {"Version": "3.4.5", "client_version_2": "3.4.5", "client_uuid": "a device"}.items() <= first[
        ids[0]
    ].raw_crash.items()


def test_destinations_are_tried_at_the_start(tmp_path: Path) -> None:
    source, port = tmp_path / "crashes", free_port()
    good, bad = tmp_path / "good", tmp_path / "file" / "bad"
    bad.parent.touch()
    toml = config(port, source, moves=True) + moving(good) + moving(bad).partition("1.0\n\n")[2]
    with Daemon(toml, port, tmp_path / "work") as daemon:
        until(lambda: f"{good} is ready" in daemon.log())
        until(lambda: f"{bad} failed; trying again" in daemon.log())


class Queue(BaseHTTPRequestHandler):
    """Takes the ids that an HTTP publisher sends."""

    ids: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        self.ids.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.do_HEAD()

    def log_message(self, *args: object) -> None:
        """Nobody wants to know."""


@pytest.fixture
def queue() -> Iterator[str]:
    """The URL of a queue."""
    Queue.ids.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Queue) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def published_to(url: str) -> str:
    return f'[[crashmover.publisher]]\ntype = "http"\nurl = "{url}"\n'


def test_two_daemons_on_one_store_publish_each_crash_once(tmp_path: Path, queue: str) -> None:
    source, ports = tmp_path / "crashes", [free_port(), free_port()]
    roots = [tmp_path / "there", tmp_path / "elsewhere"]
    first, second = (
        Daemon(config(port, source, moves=True) + moving(root) + published_to(queue), port, tmp_path / str(port))
        for port, root in zip(ports, roots, strict=True)
    )
    with first, second:
        acknowledged = submit(first, *(f"n{n}" for n in range(100))) | submit(second, *(f"m{m}" for m in range(100)))
        until(lambda: not files_of_crashes(source), 60)
        until(lambda: len(Queue.ids) >= len(acknowledged))
        assert " failed; trying again" not in first.log() + second.log()
    assert sorted(Queue.ids) == sorted(acknowledged)
    there, elsewhere = (stored_crashes(root).keys() for root in roots)
    assert there | elsewhere == acknowledged.keys()
    assert not there & elsewhere
    assert problems(source) == []


def test_workers_move_crashes_too(tmp_path: Path, queue: str) -> None:
    source, destination, port = tmp_path / "crashes", tmp_path / "there", free_port()
    toml = config(port, source, moves=True, submission="workers = 2") + moving(destination) + published_to(queue)
    with Daemon(toml, port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(200)))
        until_moved(source, acknowledged, destination, 60)
        until(lambda: len(Queue.ids) >= len(acknowledged))
        log = daemon.log()
    assert sorted(Queue.ids) == sorted(acknowledged)
    assert log.count(f"{destination} is ready") == 3  # the parent and the workers
    assert problems(source) == []


def test_ids_that_wait_for_a_queue_outlive_the_daemon(tmp_path: Path, queue: str) -> None:
    source, destination, port = tmp_path / "crashes", tmp_path / "there", free_port()
    toml = config(port, source, moves=True) + moving(destination)
    unpublished = source / "unpublished"
    away = f"http://127.0.0.1:{free_port()}/"
    with Daemon(toml + published_to(away), port, tmp_path / "work") as daemon:
        acknowledged = submit(daemon, *(f"n{n}" for n in range(20)))
        until_moved(source, acknowledged, destination)
        assert len(list(unpublished.glob("*/*/*.json"))) == 20
        daemon.kill()
    [directory] = unpublished.iterdir()
    directory.rename(directory_of(str(source), queue))  # the queue is at another address by now
    with Daemon(toml + published_to(queue), port, tmp_path / "work"):
        until(lambda: not list(unpublished.glob("*/*/*.json")))
    assert sorted(Queue.ids) == sorted(acknowledged)
