"""
SIGHUP: the settings are read again, by one process and by workers; a bad file changes nothing.
"""

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from attrs import define, field

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import post
from tests.support.load import SMALL, load
from tests.support.reports import HEADERS, crash_id_in, harm, make_report
from tests.support.response import Response
from tests.support.wait import until

pytestmark = pytest.mark.e2e

REJECT = """
[[rule]]
name = "nobody"
key = "*"
result = "reject"
"""


@define
class Rig:
    """A daemon whose settings are changed."""

    tmp_path: Path
    workers: int
    port: int = field(factory=free_port)
    daemon: Daemon = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.daemon = Daemon(self.toml(), self.port, self.tmp_path / "work")

    def toml(self, submission: str = "", more: str = "", moves: bool = False) -> str:
        submission = f"workers = {self.workers}\n{submission}"
        return config(self.port, self.tmp_path / "root", submission=submission, moves=moves) + more

    def reload(self, toml: str, message: str = "the settings were read again") -> None:
        before = self.daemon.log().count(message)
        (self.daemon.workdir / "collectord.toml").write_text(toml)
        os.kill(self.daemon.pid, signal.SIGHUP)
        try:
            until(lambda: self.daemon.log().count(message) > before)
        except TimeoutError as e:
            raise AssertionError(self.daemon.log()) from e

    def post(self, size: int = 1000, name: str = "report") -> Response:
        return post(self.port, make_report(name, size).body(), HEADERS)

    def always(self, status: int, text: bytes, size: int = 1000) -> None:
        """Each worker answers so, soon."""

        def all_do() -> bool:
            answers = [self.post(size) for _ in range(6 * self.workers)]
            return all(answer.status == status and text in answer.body for answer in answers)

        until(all_do)


@pytest.fixture(params=[1, 2], ids=["alone", "workers"])
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(tmp_path, request.param)
    with rig.daemon:
        yield rig
        rig.post()  # it is still there
    assert "Traceback" not in rig.daemon.log()


def test_rules(rig: Rig) -> None:
    rules = rig.tmp_path / "rules.toml"
    rules.write_text(REJECT)
    rig.always(200, b"CrashID=")
    rig.reload(rig.toml(more=f'[throttle]\nrules = "{rules}"\n'))
    rig.always(200, b"Discarded=rule_nobody")
    rules.write_text(REJECT.replace("nobody", "somebody"))
    rig.reload(rig.toml(more=f'[throttle]\nrules = "{rules}"\n'))
    rig.always(200, b"Discarded=rule_somebody")


ONE_EACH = """
[[rule]]
name = "one_each"
key = "*"
per = "address"
first = 1
hours = 1
below = "continue"
above = "reject"

[[rule]]
name = "rest"
key = "*"
result = "accept"
"""


def test_the_counts_of_rules_that_did_not_change(rig: Rig) -> None:
    serial = count()

    def is_kept(client: str) -> bool:
        headers = {**HEADERS, "X-Forwarded-For": f"10.0.0.1, {client}"}
        answer = post(rig.port, make_report(f"serial-{next(serial)}", 1000).body(), headers)
        assert answer.body.startswith(b"CrashID=") or answer.body == b"Discarded=rule_one_each", answer
        return answer.body.startswith(b"CrashID=")

    rules = rig.tmp_path / "rules.toml"
    rules.write_text(ONE_EACH)
    rig.reload(rig.toml(more=f'[throttle]\nrules = "{rules}"\n'))
    until(lambda: not any(is_kept("192.0.2.1") for _ in range(40 * rig.workers)))  # each worker had its first one
    assert is_kept("192.0.2.2")
    rules.write_text(ONE_EACH.replace('result = "accept"', 'result = "defer"'))
    rig.reload(rig.toml("idle_timeout_s = 20.0", f'[throttle]\nrules = "{rules}"\n'))
    assert not any(is_kept("192.0.2.1") for _ in range(6 * rig.workers))
    rules.write_text(ONE_EACH.replace("first = 1", "first = 0"))
    rig.reload(rig.toml(more=f'[throttle]\nrules = "{rules}"\n'), "the settings are bad, and nothing changes")
    assert f"{rules}: rule 'one_each': first must be a whole number, 1 or more, not 0" in rig.daemon.log()


def test_limits(rig: Rig) -> None:
    rig.reload(rig.toml("max_body_bytes = 5000"))
    rig.always(413, b"Discarded=too_large", 10_000)
    rig.always(200, b"CrashID=", 1000)
    rig.reload(rig.toml('dump_id_prefix = "xx-"'))
    rig.always(200, b"CrashID=xx-", 10_000)


def test_log_level(rig: Rig) -> None:
    rig.reload(rig.toml(more='[logging]\nformat = "json"\n'))
    until(lambda: f'"{crash_id_in(rig.post())} kept' in rig.daemon.log())
    (rig.daemon.workdir / "collectord.toml").write_text(rig.toml(more='[logging]\nlevel = "error"\n'))
    os.kill(rig.daemon.pid, signal.SIGHUP)
    until(lambda: crash_id_in(rig.post()) not in rig.daemon.log())


def test_destinations(rig: Rig) -> None:
    kept = crash_id_in(rig.post())
    one, two = rig.tmp_path / "one", rig.tmp_path / "two"
    for root in (one, two):

        def arrived(crash_id: str, root: Path = root) -> bool:
            return crash_id in stored_crashes(root)

        destination = f'[[crashmover.destination]]\ntype = "filesystem"\nroot = "{root}"\nmin_free_bytes = 0\n'
        rig.reload(rig.toml(more=destination, moves=True))
        crash_id = crash_id_in(rig.post())
        until(partial(arrived, crash_id))
    assert kept in stored_crashes(one)
    until(lambda: stored_crashes(rig.tmp_path / "root") == {})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("[nonsense]\n", "[nonsense]: unknown key"),
        ('[throttle]\nrules = "absent.toml"\n', "absent.toml"),
        ('[[crashmover.destination]]\ntype = "pigeon"\n', "pigeon"),
        ("[logging\n", "not TOML"),
    ],
)
def test_a_bad_file_changes_nothing(rig: Rig, bad: str, message: str) -> None:
    moves = "crashmover" in bad
    rig.reload(rig.toml("max_body_bytes = 5000", bad, moves=moves), "the settings are bad, and nothing changes")
    until(lambda: message in rig.daemon.log())
    rig.always(200, b"CrashID=", 10_000)


def test_what_takes_a_restart_is_said(rig: Rig) -> None:
    toml = rig.toml("max_body_bytes = 5000").replace("min_free_bytes = 0", "min_free_bytes = 1")
    rig.reload(toml)
    until(lambda: "[storage] has changed: that takes a restart" in rig.daemon.log())
    rig.always(413, b"Discarded=too_large", 10_000)


def test_under_load(rig: Rig) -> None:
    with load(rig.port, shapes=[SMALL]) as clients:
        for _ in range(5):
            clients.wait_for_more(10)
            rig.reload(rig.toml())
        clients.wait_for_more(10)
    assert (clients.refused, clients.cut_off) == ([], 0)
    assert list(harm(clients.acknowledged, rig.tmp_path / "root")) == []


def make_certificate(path: Path, serial: int) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-set_serial", str(serial)]
    subprocess.run([*command, "-keyout", path, "-out", path.with_suffix(".crt")], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())


def serial_at(port: int) -> int:
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    shown = subprocess.run(
        ["openssl", "x509", "-serial", "-noout"], input=pem.encode(), capture_output=True, check=True
    )
    return int(shown.stdout.partition(b"=")[2], 16)


@pytest.mark.parametrize("workers", [1, 2])
def test_certificates(tmp_path: Path, workers: int) -> None:
    pem, tls, port, admin = tmp_path / "server.pem", free_port(), free_port(), free_port()
    make_certificate(pem, 11)
    toml = config(port, tmp_path / "root", submission=f"workers = {workers}").replace(
        'interface=127.0.0.1"]', f'interface=127.0.0.1", "ssl:{tls}:privateKey={pem}:interface=127.0.0.1"]'
    )
    toml = toml.replace(
        "[admin]\nlisten = []", f'[admin]\nlisten = ["ssl:{admin}:privateKey={pem}:interface=127.0.0.1"]'
    )
    with Daemon(toml, port, tmp_path / "work") as daemon:
        with socket.create_connection(("127.0.0.1", tls)):
            assert {serial_at(tls) for _ in range(6)} == {11}
        make_certificate(pem, 12)
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: {serial_at(tls) for _ in range(6)} == {12})
        assert serial_at(admin) == 12
        pem.write_text("nothing")
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "the settings are bad, and nothing changes" in daemon.log())
        assert {serial_at(tls) for _ in range(6)} == {12}
        make_certificate(pem, 13)
        other = tmp_path / "other.pem"
        make_certificate(other, 14)
        pem.write_bytes(other.read_bytes().partition(b"-----BEGIN CERT")[0] + pem.with_suffix(".crt").read_bytes())
        before = daemon.log().count("nothing changes")
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: daemon.log().count("nothing changes") > before)
    assert "Traceback" not in daemon.log()


def test_signals_that_come_during_a_reload_count(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 1)
    with rig.daemon:
        for number in range(20):
            (rig.daemon.workdir / "collectord.toml").write_text(rig.toml(f'dump_id_prefix = "p{number}-"'))
            os.kill(rig.daemon.pid, signal.SIGHUP)
        rig.always(200, b"CrashID=p19-")


def test_signals_that_would_end_a_process(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 1)
    with rig.daemon:
        os.kill(rig.daemon.pid, signal.SIGUSR1)
        os.kill(rig.daemon.pid, signal.SIGUSR2)
        until(lambda: "SIGUSR2 replaces workers, and there are none" in rig.daemon.log())
        rig.post()


FILES = 'type = "filesystem"\nroot = "{root}/{name}"\nmin_free_bytes = 0\n'
OF_FILES = f"[[crashmover.destination]]\n{FILES}"
OF_A_CHAIN = f"""[[crashmover.destination]]
type = "fallback"
[[crashmover.destination.of]]
{FILES.replace("{name}", "a file/{name}")}
[[crashmover.destination.of]]
{FILES}
"""


@pytest.mark.parametrize("destination", [OF_FILES, OF_A_CHAIN], ids=["filesystem", "fallback"])
def test_reloads_leave_nothing_behind(tmp_path: Path, destination: str) -> None:
    (tmp_path / "a file").touch()
    rig = Rig(tmp_path, 1)

    def held() -> tuple[int, int, int]:
        """Threads, open files, and staging directories of the destinations."""
        process = Path(f"/proc/{rig.daemon.pid}")
        return (
            len([*(process / "task").iterdir()]),
            len([*(process / "fd").iterdir()]),
            len([*tmp_path.glob("there*/staging/*")]),
        )

    def use_another(number: int) -> None:
        name = f"there{number % 2}"
        rig.reload(rig.toml(more=destination.format(root=tmp_path, name=name), moves=True))
        crash_id = crash_id_in(rig.post())
        until(lambda: crash_id in stored_crashes(tmp_path / name))

    with rig.daemon:
        use_another(0)
        use_another(1)
        before = held()
        for number in range(5):
            use_another(number)
        until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), timeout=10)
    assert "Traceback" not in rig.daemon.log()


def test_dialects(rig: Rig) -> None:
    """Each worker takes another path, and then only those with a key; a row that is wrong changes nothing."""

    def answers(path: str) -> set[int]:
        content = make_report("report", 100).body()
        return {post(rig.port, content, HEADERS, path=path).status for _ in range(6 * rig.workers)}

    assert answers("/entries/breakpad?apikey=k") == {404}
    dialects = 'dialects = ["submit", "raygun"]\n'
    keyed = '[[submission.dialect]]\nname = "raygun"\nkeys = { good = "App" }\n'
    rig.reload(rig.toml(dialects))
    until(lambda: answers("/entries/breakpad?apikey=k") == {200})
    rig.reload(rig.toml(dialects + keyed))
    until(lambda: answers("/entries/breakpad?apikey=k") == {401})
    assert answers("/entries/breakpad?apikey=good") == {200}
    rig.reload(rig.toml(dialects + keyed + "boddy = 1\n"), "boddy: unknown key")
    assert answers("/entries/breakpad?apikey=good") == {200}
    rig.reload(rig.toml())
    until(lambda: answers("/entries/breakpad?apikey=good") == {404})
