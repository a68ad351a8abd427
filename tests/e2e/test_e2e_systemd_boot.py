"""
The units in a machine that systemd has booted, installed as their README says.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.support.daemon import ROOT
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.support.nspawn import Machine, NoMachine, make_tree
from tests.support.reports import HEADERS, crash_id_in, is_whole, make_report
from tests.support.wait import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

README = (ROOT / "systemd/README.rst").read_text()
_PROGRAM, *_INSTALL, _TO_A_SOCKET = re.findall(r"::\n\n((?: {4}.*\n)+)", README)
"""What there is to type; the program itself is there already."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    tree = tmp_path_factory.mktemp("machine") / "tree"
    try:
        make_tree(tree)
        yield tree
    except NoMachine as e:
        pytest.skip(f"no machine to boot: {e}")
    finally:
        shutil.rmtree(tree, ignore_errors=True)  # hundreds of megabytes


@pytest.fixture(scope="module")
def machine(tree: Path) -> Iterator[Machine]:
    """It runs, and collectord listens by itself."""
    machine = Machine(tree, tree.with_name("console"))
    with machine:
        for commands in (_PROGRAM.strip().splitlines()[-1], *_INSTALL):
            machine.run("sh", "-ec", f"cd /usr/src/collectord\n{commands}")
        yield machine


@pytest.fixture
def drop_ins(machine: Machine) -> Iterator[Path]:
    """Where they lie: there are none before, and none after."""
    directory = machine.tree / "etc/systemd/system/collectord.service.d"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "disable", "--now", "collectord.socket")
    machine.run("systemctl", "restart", "collectord")


def try_to_post(
    machine: Machine, directory: Path, serial: str, *options: str, url: str = "", size: int = 20_000
) -> tuple[int, bytes]:
    """curl's status, and the answer."""
    body = directory / serial
    body.write_bytes(make_report(serial, size).body())
    arguments = ["-sS", "--max-time", "30", "-H", f"Content-Type: {HEADERS['Content-Type']}", *options]
    command = ["curl", *arguments, "--data-binary", f"@{body}", url or "http://127.0.0.1:8000/submit"]
    ran = subprocess.run(machine.command(*command, only=["--net"]), capture_output=True, check=False)
    return ran.returncode, ran.stdout


def post(machine: Machine, directory: Path, serial: str, *options: str, url: str = "") -> str:
    """The crash id."""
    status, answer = try_to_post(machine, directory, serial, *options, url=url)
    assert status == 0
    return crash_id_in((200, answer))


def stored(machine: Machine, crash_id: str) -> StoredCrash:
    return stored_crashes(machine.tree / "var/lib/collectord/crashes")[crash_id]


def process(machine: Machine) -> dict[str, str]:
    """What the kernel says of the daemon."""
    lines = machine.run("cat", f"/proc/{machine.show('collectord', 'MainPID')}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def journal(machine: Machine) -> str:
    return machine.run("journalctl", "--unit=collectord", "--no-pager", "--output=cat")


def test_installed_by_the_readme_it_takes_a_crash(machine: Machine, tmp_path: Path) -> None:
    assert "active (running)" in machine.run("systemctl", "status", "collectord")
    crash_id = post(machine, tmp_path, "installed")
    root = machine.tree / "var/lib/collectord/crashes"
    assert is_whole(stored(machine, crash_id))
    assert problems(root) == []
    user = int(machine.run("id", "--user", "collectord"))
    assert user != 0
    assert {path.stat().st_uid for path in [root, root.parent]} == {user}
    assert root.parent.stat().st_mode & 0o777 == 0o700
    assert machine.show("collectord", "NRestarts") == "0"
    assert "Unable to write" not in journal(machine)
    assert "Traceback" not in journal(machine)


def test_it_is_locked_in(machine: Machine) -> None:
    machine.run("systemd-analyze", "security", "--threshold=15", "collectord.service")
    status = process(machine)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert set(status["Uid"].split()) == {machine.run("id", "--user", "collectord").strip()}


def test_it_serves_tls_all_the_same(machine: Machine, drop_ins: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", machine.tree / "etc/collectord/certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    shutil.copy(key, machine.tree / "etc/collectord/secrets/key.pem")
    listen = (
        '["tcp:8000:interface=127.0.0.1", '
        '"ssl:8443:privateKey=%d/key.pem:certKey=/etc/collectord/certificate.pem:interface=127.0.0.1"]'
    )
    (drop_ins / "tls.conf").write_text(
        "[Service]\nLoadCredential=key.pem:/etc/collectord/secrets/key.pem\n"
        f"Environment='COLLECTORD_SUBMISSION__LISTEN={listen}'\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "collectord")
    options = ["--cacert", str(certificate), "--resolve", "localhost:8443:127.0.0.1"]
    assert is_whole(stored(machine, post(machine, tmp_path, "tls", *options, url="https://localhost:8443/submit")))


def test_a_secret_is_handed_over(machine: Machine, drop_ins: Path) -> None:
    (machine.tree / "etc/collectord/secrets/aws").write_text("[default]\n")
    shutil.copy(ROOT / "systemd/drop-ins/credentials.conf", drop_ins)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "collectord")
    environment = machine.run("cat", f"/proc/{machine.show('collectord', 'MainPID')}/environ").split("\0")
    [path] = [value for name, _, value in (line.partition("=") for line in environment) if "AWS" in name]
    as_collectord = ["nsenter", "--mount", f"--target={machine.show('collectord', 'MainPID')}", "--"]
    assert machine.run(*as_collectord, "setpriv", "--reuid=collectord", "--clear-groups", "cat", path) == "[default]\n"


@pytest.mark.parametrize("may_write", [True, False], ids=["with its drop-in", "without"])
def test_another_store_has_to_be_named(machine: Machine, drop_ins: Path, tmp_path: Path, may_write: bool) -> None:
    machine.run("install", "-d", "--owner=collectord", "/mnt/nfs/crashes")
    (drop_ins / "roots.conf").write_text(
        "[Service]\nEnvironment=COLLECTORD_STORAGE__0__ROOT=/usr/crashes COLLECTORD_SUBMISSION__PATIENCE_S=5\n"
        "Environment=COLLECTORD_STORAGE__1__ROOT=/mnt/nfs/crashes COLLECTORD_STORAGE__1__MIN_FREE_BYTES=0\n"
    )
    if may_write:
        shutil.copy(ROOT / "systemd/drop-ins/store.conf", drop_ins)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "collectord")
    status, answer = try_to_post(machine, tmp_path, f"elsewhere-{may_write}")
    if may_write:
        crash_id = crash_id_in((200, answer))
        assert is_whole(stored_crashes(machine.tree / "mnt/nfs/crashes")[crash_id])
    else:
        assert (status, answer) == (0, b"Discarded=nowhere_to_save")


def test_a_reload_is_no_restart(machine: Machine, tmp_path: Path) -> None:
    before = machine.show("collectord", "MainPID")
    machine.run("systemctl", "reload", "collectord")
    until(lambda: machine.show("collectord", "ActiveState") == "active")
    assert post(machine, tmp_path, "reloaded")
    assert machine.show("collectord", "MainPID") == before


def test_a_daemon_that_hangs_is_started_again(machine: Machine, drop_ins: Path, tmp_path: Path) -> None:
    (drop_ins / "soon.conf").write_text("[Service]\nWatchdogSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "collectord")
    before = machine.show("collectord", "MainPID")
    machine.run("sleep", "3")
    assert machine.show("collectord", "MainPID") == before  # its pings are heard
    machine.run("sh", "-c", f"kill -STOP {before}")
    until(lambda: machine.show("collectord", "NRestarts") == "1", 20)
    until(lambda: machine.show("collectord", "ActiveState") == "active")
    assert "Watchdog timeout" in journal(machine)
    assert machine.show("collectord", "MainPID") != before
    assert is_whole(stored(machine, post(machine, tmp_path, "after-a-hang")))


def test_workers_whose_daemon_is_killed_finish_what_they_have_begun(
    machine: Machine, drop_ins: Path, tmp_path: Path
) -> None:
    (drop_ins / "workers.conf").write_text("[Service]\nEnvironment=COLLECTORD_SUBMISSION__WORKERS=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "collectord")
    with ThreadPoolExecutor() as pool:
        upload = pool.submit(try_to_post, machine, tmp_path, "slow", "--limit-rate", "100k", size=400_000)
        machine.run("sleep", "1")
        machine.run("sh", "-c", f"kill -KILL {machine.show('collectord', 'MainPID')}")
        status, answer = upload.result()
    assert status == 0
    assert is_whole(stored(machine, crash_id_in((200, answer))))
    until(lambda: machine.show("collectord", "ActiveState") == "active")
    assert machine.show("collectord", "NRestarts") == "1"
    assert post(machine, tmp_path, "after-a-kill")


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_is_refused_while_systemd_listens(
    machine: Machine, drop_ins: Path, tmp_path: Path, workers: int
) -> None:
    (drop_ins / "workers.conf").write_text(f"[Service]\nEnvironment=COLLECTORD_SUBMISSION__WORKERS={workers}\n")
    machine.run("sh", "-ec", f"cd /usr/src/collectord\n{_TO_A_SOCKET}")
    over = Event()

    def client(name: int) -> list[tuple[int, bytes]]:
        answers: list[tuple[int, bytes]] = []
        while not over.is_set():
            answers.append(try_to_post(machine, tmp_path, f"client-{workers}-{name}-{len(answers)}"))
        return answers

    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(client, name) for name in range(3)]
        try:
            before = machine.show("collectord", "MainPID")
            for _ in range(2):
                machine.run("systemctl", "restart", "collectord")
            post(machine, tmp_path, "restarted")
        finally:
            over.set()
    answers = [answer for each in clients for answer in each.result()]
    assert machine.show("collectord", "MainPID") != before
    assert len(answers) > 5
    assert {status for status, _ in answers} == {0}
    assert all(is_whole(stored(machine, crash_id_in((200, answer)))) for _, answer in answers)


def test_the_first_client_after_a_boot_starts_it(machine: Machine, drop_ins: Path, tmp_path: Path) -> None:
    machine.run("sh", "-ec", f"cd /usr/src/collectord\n{_TO_A_SOCKET}\nsystemctl stop collectord")
    assert machine.show("collectord", "ActiveState") == "inactive"
    assert is_whole(stored(machine, post(machine, tmp_path, "first")))
    assert machine.show("collectord", "ActiveState") == "active"
