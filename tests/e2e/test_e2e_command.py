"""
The command C{collectord} as it is installed, beside a real daemon and its real crashmover.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.http import curl
from tests.support.wait import until

pytestmark = pytest.mark.e2e

COLLECTORD = str(Path(sys.executable).with_name("collectord"))
DUMP = b"MDMP" + bytes(300_000)


@frozen
class Ran:
    """How the command ended, and what it wrote."""

    status: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.stdout.splitlines()]


def collectord(*args: object, stdin: str = "") -> Ran:
    """The real one; a traceback fails the test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTORD_")}
    ran = subprocess.run(
        [COLLECTORD, *map(str, args)],
        input=stdin,
        env=inherited | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def moving(root: Path) -> str:
    """Settings of a crashmover to a file system."""
    return (
        "[crashmover]\ninterval_s = 0.5\n[[crashmover.destination]]\n"
        f'type = "filesystem"\nroot = {json.dumps(str(root))}\nmin_free_bytes = 0\n'
    )


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "crash.dmp"
    path.write_bytes(DUMP)
    return path


def submitted(daemon: Daemon, *args: object) -> list[str]:
    """The ids, without their prefix."""
    ran = collectord("submit", daemon.url(), *args)
    assert (ran.status, ran.stderr) == (0, "")
    return [line.removeprefix("bp-") for line in ran.stdout.splitlines()]


def test_a_crash_from_the_submission_to_its_removal(tmp_path: Path, dump: Path) -> None:
    store, port = tmp_path / "crashes", free_port()
    extra = tmp_path / "extra.json"
    extra.write_text('{"ProductName": "Fenix", "Version": "1.0", "n": 5}')
    with Daemon(config(port, store), port, tmp_path / "work") as daemon:
        settings = daemon.workdir / "collectord.toml"
        plain = submitted(daemon, dump, "-a", "ProductName=Firefox", "-a", "Comments=two\nlines ü")
        packed = submitted(daemon, dump, dump, "--gzip", "--extra", extra, "--dump", f"log={extra}", "--repeat", 2)
        assert (len(plain), len(packed)) == (1, 4)
        assert problems(store) == []
        kept = stored_crashes(store)
        assert kept.keys() == {*plain, *packed}
        assert kept[plain[0]].raw_crash["Comments"] == "two\nlines ü"
        assert kept[plain[0]].dumps == {"upload_file_minidump": DUMP}
        assert kept[packed[3]].raw_crash["n"] == "5"
        assert kept[packed[3]].dumps == {"upload_file_minidump": DUMP, "log": extra.read_bytes()}

        listed = collectord("crashes", "list", "--config", settings, "--day", "today", "--json").lines()
        assert {line["crash_id"] for line in listed} == kept.keys()
        assert all(line["new"] for line in listed)
        only = collectord("crashes", "list", "--config", settings, "--product", "Firefox", "--json").lines()
        assert [line["crash_id"] for line in only] == plain
        shown = collectord("crashes", "show", "--config", settings, f"bp-{plain[0]}", "--json").json()
        assert [place["raw_crash"] for place in shown] == [kept[plain[0]].raw_crash]
        assert "two\\nlines ü" in collectord("crashes", "show", "--config", settings, plain[0]).stdout

        assert collectord("crashes", "verify", "--config", settings, "--all").status == 0
        [broken] = store.glob(f"*/name/*/*/{packed[0]}.log.dump")
        broken.write_bytes(b"another")
        verified = collectord("crashes", "verify", "--config", settings, "--all")
        assert verified.status == 1
        assert packed[0] in verified.stdout

        assert collectord("crashes", "export", "--config", settings, plain[0], tmp_path / "out").status == 0
        assert (tmp_path / "out" / f"{plain[0]}.dump").read_bytes() == DUMP
        removed = collectord("crashes", "remove", "--yes", "--config", settings, *packed)
        assert removed.status == 0
        assert problems(store) == []
        assert stored_crashes(store).keys() == {*plain}
        assert collectord("crashes", "show", "--config", settings, packed[0]).status == 1


def test_refusals(tmp_path: Path, dump: Path) -> None:
    port = free_port()
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "nobody"\nkey = "*"\nresult = "reject"\n')
    toml = config(
        port,
        tmp_path / "crashes",
        submission="max_body_bytes = 400000\nmax_read_bytes = 400000\nsubmitter_token = 'hunter2'",
    )
    with Daemon(f"{toml}[throttle]\nrules = {json.dumps(str(rules))}\n", port, tmp_path / "work") as daemon:
        settings = daemon.workdir / "collectord.toml"
        for args, output in (
            ([dump, "-a", "ProductName=Fenix"], "200 Discarded=rule_nobody"),
            ([dump], "200 Discarded=rule_nobody"),
            ([dump, "-a", "a=1", "--dump", f"b={dump}"], "413 Discarded=too_large"),
            ([dump, "-a", "uuid=8f63752c-57c6-4e5d-b2cf-cabde2160622", "--token", "x"], "401 Discarded=unauth"),
            ([dump, "-a", "uuid=8f63752c-57c6-4e5d-b2cf-cabde2160622", "--config", settings], "200 Discarded=rule_nob"),
        ):
            ran = collectord("submit", daemon.url("/submit"), *args)
            assert (ran.status, ran.stdout) == (1, "")
            assert output in ran.stderr
    assert collectord("submit", daemon.url(), dump).status == 2


def test_out_of_the_quarantine_and_moved(tmp_path: Path, dump: Path) -> None:
    store, destination, port = tmp_path / "crashes", tmp_path / "there", free_port()
    with Daemon(config(port, store), port, tmp_path / "work") as daemon:
        crash_id, damaged = submitted(daemon, dump, "-a", "A=1", "--repeat", 2)
    for one in (crash_id, damaged):
        [path] = store.glob(f"*/name/*/*/{one}.dump")
        path.write_bytes(b"MDMP overwritten")
    daemon = Daemon(config(port, store, moves=True) + moving(destination), port, tmp_path / "work")
    with daemon:
        settings = daemon.workdir / "collectord.toml"
        until(lambda: len(list(store.glob("quarantine/*/*.json"))) == 2)
        listed = collectord("quarantine", "list", "--config", settings, "--json").lines()
        assert {line["crash_id"] for line in listed} == {crash_id, damaged}
        assert all("checksum" in line["reason"] for line in listed)
        refused = collectord("quarantine", "release", "--config", settings, crash_id, damaged)
        assert refused.status == 1
        assert refused.stderr.count("stays in the quarantine: the dump upload_file_minidump has the checksum") == 2
        assert stored_crashes(destination) == {}

        (store / "quarantine" / crash_id / f"{crash_id}.dump").write_bytes(DUMP)
        released = collectord("quarantine", "release", "--config", settings, crash_id)
        assert (released.status, released.stderr) == (0, "")
        until(lambda: crash_id in stored_crashes(destination))
        assert collectord("quarantine", "release", "--config", settings, "--as-it-is", damaged).status == 0
        until(lambda: len(stored_crashes(destination)) == 2)
        until(lambda: not list(store.glob("*/name/*/*/*.json")))
        assert collectord("quarantine", "list", "--config", settings, "--json").stdout == ""
    assert problems(destination) == []
    assert stored_crashes(destination)[crash_id].dumps == {"upload_file_minidump": DUMP}
    assert stored_crashes(destination)[damaged].dumps == {"upload_file_minidump": b"MDMP overwritten"}


def test_rules_are_tried_on_what_was_kept(tmp_path: Path) -> None:
    store, port = tmp_path / "crashes", free_port()
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\nname = "fenix"\nkey = "ProductName"\nequals = "Fenix"\nresult = "accept"\n'
        '[[rule]]\nname = "rest"\nkey = "*"\nresult = "reject"\n'
    )
    with Daemon(config(port, store), port, tmp_path / "work") as daemon:
        settings = daemon.workdir / "collectord.toml"
        fenix = submitted(daemon, "-a", "prod=Fenix", "--repeat", 3)
        firefox = submitted(daemon, "-a", "ProductName=Firefox")
        explain = ["throttle", "explain", "--config", settings, "--json"]
        verdict = {"result": "accept", "rule": "accept_everything", "share": 1.0}
        assert collectord(*explain, firefox[0]).json()["verdicts"] == [verdict]
        new = collectord(*explain, "--rules", rules, firefox[0]).json()
        assert new["verdicts"] == [{"result": "reject", "rule": "rest", "share": 1.0}]
        assert new["steps"][0]["annotations"] == {"ProductName": "Firefox"}
        from_stdin = collectord(*explain, "--rules", rules, "-", stdin='{"prod": "Fenix"}').json()
        assert from_stdin["verdicts"][0]["rule"] == "fenix"
        assert collectord(*explain, "--rules", rules, fenix[0]).json()["verdicts"][0]["rule"] == "fenix"
        replayed = collectord("throttle", "replay", "--config", settings, rules)
        assert replayed.status == 0
        assert "4 crashes: 1 would get another result, 1 would not be kept" in replayed.stdout
        same = collectord("throttle", "replay", "--config", settings, "accept_all", "--day", "today", "--json").json()
        assert (same["crashes"], same["changed"]) == (4, 0)


def test_status(tmp_path: Path, dump: Path) -> None:
    store, port, admin = tmp_path / "crashes", free_port(), free_port()
    toml = config(port, store).replace(
        "[admin]\nlisten = []", f"[admin]\nlisten = ['tcp:{admin}:interface=127.0.0.1']\ntoken = 'hunter2'"
    )
    with Daemon(toml, port, tmp_path / "work") as daemon:
        settings = daemon.workdir / "collectord.toml"
        submitted(daemon, dump, "-a", "A=1")
        until(lambda: collectord("status", "--config", settings, "--json").status == 0)
        assert collectord("status", "--config", settings, "--json").json()["stores"][0]["name"] == str(store)
        output = collectord("status", "--config", settings)
        assert (output.status, output.stderr) == (0, "")
        assert str(store) in output.stdout
        url = f"http://127.0.0.1:{admin}"
        without = collectord("status", "--url", url)
        assert without.status == 2
        assert "does it have the same [admin] token and hosts?" in without.stderr
        assert collectord("status", "--url", daemon.url()).status == 2
    assert collectord("status", "--config", settings).status == 2


def test_an_index_without_its_journal_is_made_again_from_the_stores(tmp_path: Path, dump: Path) -> None:
    store, port, admin = tmp_path / "crashes", free_port(), free_port()
    toml = f'{config(port, store, admin=admin)}\n[state]\ndirectory = "{tmp_path}/state"\n'

    def known() -> list[str]:
        status, body = curl(f"http://127.0.0.1:{admin}/search.json?q=product:Fenix")
        return [crash["crash_id"] for crash in json.loads(body)["crashes"]] if status == 200 else []

    with Daemon(toml, port, tmp_path / "work") as daemon:
        ids = submitted(daemon, dump, "-a", "ProductName=Fenix")
        until(lambda: known() == ids)
        for journal in (store / "ledger").glob("*.journal"):
            journal.write_bytes(b"")
        assert collectord("index", "rebuild", "--config", daemon.toml_path).status == 0
        until(lambda: "0 lines of the journal, and 1 crashes that only the stores had" in daemon.log())
        until(lambda: known() == ids)
        for file in (tmp_path / "state").glob("index/*/crashes.sqlite*"):
            file.unlink()
        until(lambda: "made anew: the file was removed" in daemon.log())
        until(lambda: known() == ids)


def test_the_settings_that_a_daemon_starts_with(tmp_path: Path) -> None:
    port = free_port()
    with Daemon(config(port, tmp_path / "crashes"), port, tmp_path / "work") as daemon:
        settings = daemon.workdir / "collectord.toml"
        assert collectord("check-config", "--config", settings).status == 0
        settings.write_text(f"{daemon.toml}[nonsense]\n")
        checked = collectord("check-config", "--config", settings)
        assert (checked.status, checked.stdout) == (1, "")
        assert "nonsense" in checked.stderr
