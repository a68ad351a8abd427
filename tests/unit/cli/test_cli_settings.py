import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collectord.storage.filesystem.mounted import Mount, cautions_of
from tests.unit.cli.command import run

SECRETS = """
[submission]
submitter_token = "hunter2"
[admin]
token = "hunter2"
[sentry]
dsn = "https://hunter2@sentry.example.com/1"
[[storage]]
root = "first"
[[storage]]
root = "second"
[[crashmover.destination]]
type = "s3"
bucket = "crashes"
access_key = "hunter2"
secret_key = "hunter2"
[[crashmover.publisher]]
type = "rabbitmq"
url = "amqp://me:hunter2@localhost/"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return tmp_path / "collectord.toml"


def test_without_a_file(tmp_path: Path) -> None:
    checked = run("check-config")
    assert checked.exit_code == 0
    assert checked.stderr.startswith("collectord: warning: [[storage]] 0 root = 'crashes': is relative")
    assert "built-in values, and the environment" in checked.stdout
    assert "accept_everything" in checked.stdout
    assert os.listdir(tmp_path) == []


def test_all_of_it(settings: Path, tmp_path: Path) -> None:
    settings.write_text(SECRETS)
    checked = run("check-config", "-c", settings)
    assert checked.exit_code == 0
    assert [line.split("'")[1] for line in checked.stderr.splitlines()] == ["first", "second"]  # both are relative
    for text in ("first", "second", "rabbitmq socorro.standard", "s3", "publisher", "destination"):
        assert text in checked.stdout
    assert os.listdir(tmp_path) == ["collectord.toml"], "nothing is made"


_STORES = "[[storage]]\nroot = 'a'\n[[storage]]\nroot = 'b'\n"
_DESTINATION = "[[crashmover.destination]]\ntype = 'filesystem'\nroot = 'c'\n"
_PUBLISHER = "[[crashmover.publisher]]\ntype = 'http'\nurl = 'http://127.0.0.1:9/'\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("[[storage]]\nroot = 'a'\n", "crashes stay", id="one store"),
        pytest.param(_STORES, "crashes stay; those in a fallback store go to the primary", id="two stores"),
        pytest.param(_DESTINATION, "to 1 destination", id="a destination"),
        pytest.param(_DESTINATION + _PUBLISHER, "to 1 destination, 1 publisher", id="a destination and a publisher"),
        pytest.param("[crashmover]\nenabled = false\n", "off", id="off"),
    ],
)
def test_where_crashes_go(settings: Path, text: str, told: str) -> None:
    settings.write_text(text)
    [line] = [line for line in run("check-config", "-c", settings).stdout.splitlines() if line.startswith("crashmover")]
    assert line.removeprefix("crashmover").strip() == told


def test_how_many_workers_in_the_words_of_status(settings: Path) -> None:
    """C{test_cli_status.py} has them, too."""
    apart = "[crashmover]\nprocesses = 1\n"
    for text, told in (("[submission]\nworkers = 2\n", "2"), (apart, "1 to receive, 1 to move")):
        settings.write_text(text)
        lines = run("check-config", "-c", settings).stdout.splitlines()
        assert [line.split() for line in lines if line.startswith("workers")] == [["workers", *told.split()]]


def test_addresses_that_may_be_there_twice(settings: Path) -> None:
    lines = "listen = ['tcp:0:interface=127.0.0.1', 'tcp:0:interface=127.0.0.1']\n"
    settings.write_text(f"[submission]\n{lines}[admin]\n{lines}")
    assert run("check-config", "-c", settings).exit_code == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_secret_is_shown(settings: Path, options: list[str]) -> None:
    settings.write_text(SECRETS)
    checked = run("check-config", "-c", settings, *options)
    assert checked.exit_code == 0
    assert checked.stdout.count("(set)") == 3
    assert "hunter2" not in checked.stdout + checked.stderr


def test_warnings(settings: Path, tmp_path: Path) -> None:
    settings.write_text(f"[admin]\ntoken = 'hunter2'\n[[storage]]\nroot = '{tmp_path}/a'\n")
    settings.chmod(0o600)
    assert run("check-config", "-c", settings).stderr == ""
    settings.chmod(0o644)
    if all(parent.stat().st_mode & 0o001 for parent in settings.parents):
        checked = run("check-config", "-c", settings)
        assert checked.exit_code == 0
        assert f"chmod o= {settings}" in checked.stderr
        assert "chmod" in json.loads(run("check-config", "-c", settings, "--json").stdout)["warnings"][0]


@pytest.mark.parametrize(("seconds", "warned"), [("59.5", False), ("60", True), ("inf", True)])
def test_a_patience_that_outlasts_the_clients(settings: Path, tmp_path: Path, seconds: str, warned: bool) -> None:
    settings.write_text(f"[submission]\npatience_s = {seconds}\n[[storage]]\nroot = '{tmp_path}/a'\n")
    settings.chmod(0o600)
    warning = f"warning: [submission] patience_s = {seconds}: Crashpad gives up 60 s after it has begun to send\n"
    checked = run("check-config", "-c", settings)
    assert (checked.exit_code, warning in checked.stderr, bool(checked.stderr)) == (0, warned, warned)


@pytest.mark.parametrize(("prefix", "warned"), [("bp-", False), ("", True), ("xx-", True)])
def test_ids_that_firefox_does_not_take(settings: Path, tmp_path: Path, prefix: str, warned: bool) -> None:
    settings.write_text(f"[submission]\ndump_id_prefix = '{prefix}'\n[[storage]]\nroot = '{tmp_path}/a'\n")
    settings.chmod(0o600)
    checked = run("check-config", "-c", settings)
    assert checked.exit_code == 0
    assert (f"warning: [submission] dump_id_prefix = '{prefix}': Firefox's own pages" in checked.stderr) == warned
    assert bool(checked.stderr) == warned


def test_a_service_has_no_directory_of_its_own(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.write_text("[[storage]]\nroot = 'crashes'\n")
    assert run("check-config", "-c", settings).exit_code == 0
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    refused = run("check-config", "-c", settings)
    assert refused.exit_code == 1
    assert "[[storage]] 0 root = 'crashes': is relative, and a service" in refused.stderr


def test_for_scripts(settings: Path) -> None:
    settings.write_text("[throttle]\nrules = 'mozilla'\nproducts = ['Fenix']\n")
    found = json.loads(run("check-config", "-c", settings, "--json").stdout)
    assert found["ok"] is True
    assert found["settings"]["throttle"] == {"rules": "mozilla", "products": ["Fenix"]}
    assert "unsupported_product" in found["rules"]


@pytest.mark.parametrize(
    ("toml", "output"),
    [
        ("[submission]\nlissen = []", ["[submission] lissen", "unknown key"]),
        ("[submission]\nlisten = ['tpc:8000']", ["[submission] listen = 'tpc:8000'"]),
        ("[admin]\nlisten = ['ssl:8001:privateKey=/nowhere']", ["[admin] listen"]),
        ("[admin]\nlisten = ['tcp:8001']", ["[admin] listen = 'tcp:8001'", "set a token", "allow_open = true"]),
        (
            "[admin]\nlisten = ['tcp:8000:interface=127.0.0.1']",
            ["[admin] listen =", "is in [submission] listen already"],
        ),
        ("[submission]\nlisten = ['tcp:1', 'tcp:1']", ["[submission] listen = 'tcp:1': is in [submission] listen"]),
        ("[[storage]]\nroot = ''", ["[[storage]] 0 root = ''", "is empty"]),
        ("[[storage]]\nroot = '/a'\n[[storage]]\nroot = '/a/b'", ["'/a/b': lies in", "'/a'"]),
        ("[[crashmover.destination]]\ntype = 'filesystem'\nroot = '${STATE}'", ["root: has a placeholder in it"]),
        ("[submission", ["not TOML"]),
        ("[throttle]\nrules = 'nowhere.toml'", ["nowhere.toml"]),
        (
            "[[crashmover.destination]]\nkind = 's3'",
            [".toml: [[crashmover.destination]] 0 type is missing", "filesystem"],
        ),
        ("[[crashmover.destination]]\ntype = 's4'", ["type = 's4': there is none", "s3"]),
        ("[[crashmover.destination]]\ntype = 's3'\nbucket = 'crashes'\nbukket = 'b'", ["bukket", "unknown key"]),
        ("[[crashmover.destination]]\ntype = 'filesystem'\nroot = 'crashes'", ["is the root of a [[storage]]"]),
        ("[[crashmover.publisher]]\ntype = 'http'\nurl = 'http://x'", ["a publisher needs a destination"]),
        ("[sentry]\ndsn = 'hunter2'", ["[sentry] dsn = …"]),
    ],
)
def test_what_the_daemon_would_not_start_with(settings: Path, toml: str, output: list[str]) -> None:
    settings.write_text(toml)
    checked = run("check-config", "--config", settings)
    assert (checked.exit_code, checked.stdout) == (1, "")
    [line] = checked.stderr.splitlines()
    assert line.startswith("collectord: ")
    for text in output:
        assert text in line
    assert "hunter2" not in line
    as_json = run("check-config", "--config", settings, "--json")
    assert (as_json.exit_code, as_json.stderr) == (1, "")
    assert json.loads(as_json.stdout) == {"ok": False, "problems": [line.removeprefix("collectord: ")]}


def may_a_stranger(path: str | Path, mode: int, **_: bool) -> bool:
    """What os.access says to a user who is not the owner, since root may do everything."""
    return os.stat(path).st_mode & mode == mode


@pytest.mark.parametrize("kind", ["storage", "crashmover.destination"])
@pytest.mark.parametrize("is_there", [True, False], ids=["there", "missing"])
def test_a_root_that_this_user_can_not_write(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_there: bool
) -> None:
    monkeypatch.setattr(os, "access", may_a_stranger)
    above = tmp_path / "above"
    root = above if is_there else above / "not" / "there"
    above.mkdir()
    store = f"[[storage]]\nroot = '{root}'\n"
    if kind != "storage":
        (tmp_path / "first").mkdir()
        (tmp_path / "first").chmod(0o777)
        store = f"[[storage]]\nroot = '{tmp_path}/first'\n[[{kind}]]\ntype = 'filesystem'\nroot = '{root}'\n"
    settings.write_text(store)
    above.chmod(0o755)
    checked = run("check-config", "-c", settings)
    assert (checked.exit_code, checked.stdout) == (1, "")
    assert f"collectord: {root}: this user can't write to {above}\n" in checked.stderr
    above.chmod(0o777)
    assert run("check-config", "-c", settings).exit_code == 0


def test_a_day_that_this_user_can_not_write(settings: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", may_a_stranger)
    root.chmod(0o777)
    day = root / datetime.now(UTC).strftime("%Y%m%d")
    day.mkdir(mode=0o700)
    settings.write_text(f"[[storage]]\nroot = '{root}'\n")
    checked = run("check-config", "-c", settings)
    assert (checked.exit_code, checked.stdout) == (1, "")
    assert f"collectord: {root}: this user can't write to {day}\n" in checked.stderr
    day.chmod(0o777)
    assert run("check-config", "-c", settings).exit_code == 0


def of_fuse(path: str) -> Mount:
    return Mount(kind="fuse.sshfs" if path.startswith("/mnt/ssh") else "ext4")


@pytest.mark.parametrize(
    ("toml", "roots"),
    [
        ("[[storage]]\nroot = '/mnt/ssh/a'\nsync = 'filesystem'", ["/mnt/ssh/a"]),
        (
            "[[storage]]\nroot = '/b'\n[[crashmover.destination]]\ntype = 'filesystem'\n"
            "root = '/mnt/ssh/c'\nsync = 'filesystem'",
            ["/mnt/ssh/c"],
        ),
    ],
)
def test_syncfs_on_a_file_system_that_syncs_nothing(
    settings: Path, monkeypatch: pytest.MonkeyPatch, toml: str, roots: list[str]
) -> None:
    monkeypatch.setattr("collectord.cli.check_config.mount_of", of_fuse)
    settings.write_text(toml)
    checked = run("check-config", "--config", settings)
    assert checked.exit_code == 1
    assert [line.split(": ")[1] for line in checked.stderr.splitlines()] == roots
    assert 'sync = "filesystem" syncs nothing on fuse.sshfs' in checked.stderr


def test_what_is_not_promised(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.cli.check_config.cautions_at", lambda path: cautions_of(of_fuse(path)))
    settings.write_text("[[storage]]\nroot = '/mnt/ssh/a'\n[[storage]]\nroot = '/b'\n")
    checked = run("check-config", "--config", settings)
    assert checked.exit_code == 0
    assert "/mnt/ssh/a: on fuse.sshfs: it is served by a process (FUSE)" in checked.stdout
    cautions = json.loads(run("check-config", "--config", settings, "--json").stdout)["cautions"]
    assert cautions == {"/mnt/ssh/a": list(cautions_of(of_fuse("/mnt/ssh/a")))}


def test_marks_beyond_the_size_of_the_disk(settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.cli.check_config.cautions_at", lambda path: [])
    root = tmp_path / "crashes"
    marks = "min_free_bytes = 1\nlow_free_bytes = 4611686018427387904\nkeep_bytes = 4611686018427387904"
    settings.write_text(f"[[storage]]\nroot = '{root}'\n{marks}\n")
    assert json.loads(run("check-config", "--config", settings, "--json").stdout)["cautions"] == {}  # not made yet
    root.mkdir()
    cautions = json.loads(run("check-config", "--config", settings, "--json").stdout)["cautions"][str(root)]
    assert [caution.split(" is ")[0] for caution in cautions] == ["low_free_bytes", "keep_bytes"]
    assert cautions[0].endswith("something is always left out of new crashes")


def test_a_root_that_can_be_no_directory(settings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    within = tmp_path / "file" / "crashes"
    destination = f'[[crashmover.destination]]\ntype = "filesystem"\nroot = "{tmp_path / "file"}"\n'
    settings.write_text(f'[[storage]]\nroot = "{tmp_path / "a" / "b"}"\n[[storage]]\nroot = "{within}"\n')
    checked = run("check-config", "--config", settings)
    assert (checked.exit_code, checked.stderr) == (1, f"collectord: {within}: {tmp_path / 'file'} is not a directory\n")
    settings.write_text(f'[[storage]]\nroot = "{tmp_path / "a" / "b"}"\n{destination}')
    checked = run("check-config", "--config", settings)
    assert checked.stderr == f"collectord: {tmp_path / 'file'}: {tmp_path / 'file'} is not a directory\n"


def test_several_problems_are_several_lines(settings: Path) -> None:
    settings.write_text("[submission]\nworkers = 0\nmax_parts = 0\n")
    checked = run("check-config", "--config", settings)
    assert [line.startswith("collectord: ") for line in checked.stderr.splitlines()] == [True, True]


def test_a_missing_file() -> None:
    checked = run("check-config", "--config", "nowhere.toml")
    assert (checked.exit_code, checked.stderr) == (1, "collectord: nowhere.toml: No such file or directory\n")


def test_the_environment(settings: Path) -> None:
    assert run("check-config", env={"COLLECTORD_SUBMISSION__WORKERS": "0"}).exit_code == 1
    found = run("check-config", "--json", env={"COLLECTORD_SUBMISSION__WORKERS": "3"})
    assert json.loads(found.stdout)["settings"]["submission"]["workers"] == 3


def test_a_crashmover_that_is_off_is_not_looked_at(settings: Path) -> None:
    settings.write_text("[crashmover]\nenabled = false\n[[crashmover.destination]]\ntype = 's4'\n")
    assert run("check-config", "--config", settings).exit_code == 0


def test_a_socket_of_systemd(settings: Path) -> None:
    settings.write_text("[submission]\nlisten = ['systemd:domain=INET:index=0']\n")
    assert run("check-config", "--config", settings).exit_code == 0
