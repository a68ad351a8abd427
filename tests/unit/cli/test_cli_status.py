import json
from pathlib import Path
from typing import Any

from attrs import evolve

from collectord.admin.json import as_json
from collectord.observe.status import (
    AnswerCount,
    Loss,
    Overview,
    Rates,
    Recent,
    RuleCount,
    SinkStatus,
    WorkerStatus,
)
from collectord.observe.storestatus import StoreStatus
from tests.support.cases import for_each
from tests.support.daemon import free_port
from tests.unit.cli.command import CRASH_ID, run
from tests.unit.cli.fakeserver import serving

STORE = StoreStatus(
    name="/var/crashes",
    problem="",
    free_bytes=5 << 30,
    min_free_bytes=1 << 28,
    backlog=1234,
    oldest_age_s=3661.5,
    quarantined=0,
)
OUTLET = SinkStatus(name="s3 crashes", kind="destination", problem="", given=99, failures=1, resumes_in_s=0.0)
WELL = Overview(
    version="0.1.0",
    started=1_000_000.0,
    now=1_090_000.0,
    connections=7,
    receiving=3,
    saving=2,
    moving=1,
    totals={"received": 12345, "kept": 12000},
    rates=Rates(at=1_090_000.0, received=12.5, kept=12.0, refused=0.5, moved=11.0, bytes_in=1536.0),
    history=[Rates(at=1_089_999.0)],
    answers=[AnswerCount(status="200", reason="kept", count=12000)],
    rules=[RuleCount(name="accept_everything", condition="*", results={"ACCEPT": 12000})],
    stores=[STORE],
    sinks=[OUTLET],
    workers=[WorkerStatus(pid=1, since=1_000_000.0)],
    recent=[
        Recent(
            crash_id=CRASH_ID,
            at=1_089_999.0,
            product="Fenix",
            version="1.0",
            size=5,
            rule="r",
            state="kept",
            where="/var/crashes",
        )
    ],
)


def asked_of(overview: Overview, *options: str) -> Any:
    with serving((200, as_json(overview))) as server:
        result = run("status", "--url", server.url, *options)
    assert [(asked.method, asked.path) for asked in server.asked] == [("GET", "/overview.json")]
    return result


def test_well() -> None:
    result = asked_of(WELL)
    assert (result.exit_code, result.stderr) == (0, "")
    for text in ("0.1.0", "1 d 1 h", "12.5 received", "12,345", "/var/crashes", "5.0 GiB", "1,234", "1 h 1 min"):
        assert text in result.stdout
    assert "s3 crashes" in result.stdout


def test_processes_that_only_move_are_told() -> None:
    result = asked_of(evolve(WELL, movers=[WorkerStatus(pid=2, since=1_000_000.0)]))
    assert "1 to receive, 1 to move" in result.stdout


def test_for_scripts() -> None:
    result = asked_of(WELL, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(as_json(WELL))


@for_each(
    "overview",
    [
        evolve(WELL, stores=[STORE, evolve(STORE, name="/mnt/\x1b[31mnfs", problem="it is\x1b[0m full")]),
        evolve(WELL, sinks=[evolve(OUTLET, name="/mnt/\x1b[31mnfs", problem="it is\x1b[0m full", resumes_in_s=59.0)]),
    ],
)
def test_a_problem(overview: Overview) -> None:
    result = asked_of(overview)
    assert result.exit_code == 1
    kind = "Store" if overview.sinks == WELL.sinks else "Destination"
    assert result.stderr == f"collectord: {kind} /mnt/\\x1b[31mnfs: it is\\x1b[0m full\n"
    assert "it is\\x1b[0m full" in result.stdout
    assert "\x1b" not in result.stdout
    assert ("again in 59 s" in result.stdout) == (overview.sinks != WELL.sinks)
    assert (asked_of(overview, "--json").exit_code, asked_of(overview, "--json").stderr) == (1, "")


def test_a_destination_that_was_not_tried_yet_or_since_it_failed() -> None:
    """As with verify = false, where only crashes try it."""
    result = asked_of(evolve(WELL, sinks=[evolve(OUTLET, is_tried=False)]))
    assert "not tried yet" in result.stdout
    assert result.exit_code == 0
    result = asked_of(evolve(WELL, sinks=[evolve(OUTLET, problem="it was away", is_tried=False)]))
    assert "it was away (not tried since)" in result.stdout
    assert result.exit_code == 1


def test_what_is_not_known_yet() -> None:
    store = evolve(STORE, free_bytes=None, backlog=None, quarantined=None)
    result = asked_of(evolve(WELL, stores=[store], sinks=[]))
    assert result.exit_code == 0
    assert result.stdout.count("not known") == 2


def test_what_the_admin_page_says_needs_attention() -> None:
    result = asked_of(evolve(WELL, stores=[evolve(STORE, quarantined=1234)], draining=True))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "collectord: Store /var/crashes: 1,234 in the quarantine",
        "collectord: It drains: load balancers are told to send no more reports here",
    ]
    assert "1,234" in result.stdout


def test_crashes_are_being_lost() -> None:
    overview = evolve(WELL, stores=[evolve(STORE, problem="full")], loss=Loss(since=1_089_940.0, refused=1234))
    result = asked_of(overview)
    assert result.exit_code == 1
    assert result.stdout.startswith("CRASHES ARE BEING LOST\n")
    said = "No store can keep a crash since 14:45:40 UTC, 1 min ago. 1,234 reports were answered 503 so far"
    assert said in result.stdout
    assert result.stderr.startswith(f"collectord: CRASHES ARE BEING LOST: {said}")
    assert result.stderr.splitlines()[1:] == ["collectord: Store /var/crashes: full"]


def test_what_is_not_promised_is_told_and_no_problem() -> None:
    stores = [evolve(STORE, cautions=["on tmpfs: \x1b[31mit lies in memory"])]
    result = asked_of(evolve(WELL, stores=stores, sinks=[evolve(OUTLET, cautions=["on nfs4: x"])]))
    assert result.exit_code == 0
    assert "/var/crashes: on tmpfs: \\x1b[31mit lies in memory\n" in result.stdout
    assert "s3 crashes: on nfs4: x\n" in result.stdout


def test_a_token(tmp_path: Path) -> None:
    settings = tmp_path / "collectord.toml"
    settings.write_text("[admin]\ntoken = 'hunter2'\n")
    with serving((200, as_json(WELL))) as server:
        assert run("status", "--url", server.url, "--config", settings).exit_code == 0
    assert server.asked[0].headers["authorization"] == "Bearer hunter2"


def test_where_the_settings_say(tmp_path: Path) -> None:
    settings = tmp_path / "collectord.toml"
    with serving((200, as_json(WELL))) as server:
        port = server.url.rpartition(":")[2]
        settings.write_text(f"[admin]\nlisten = ['tcp:{port}:interface=127.0.0.1']\n")
        assert run("status", "--config", settings).exit_code == 0
    with serving((200, as_json(WELL)), unix=tmp_path / "socket"):
        settings.write_text(f"[admin]\nlisten = ['unix:{tmp_path}/socket:mode=600']\n")
        assert run("status", "--config", settings).exit_code == 0


@for_each(
    ("answer", "output"),
    [
        ((401, b"no"), "the admin port answers 401: does it have the same [admin] token and hosts?"),
        ((404, b"\x1b[31mno such page"), "not an admin port of collectord: it answers 404 \\x1b[31mno such page"),
        ((200, b"<html>"), "not an admin port of collectord"),
        ((200, b"[]"), "not an admin port of collectord"),
        ((200, b"[" * 100_000), "not an admin port of collectord"),
        ((200, b"{}"), "the answer can't be read"),
        ((200, as_json(WELL).replace(b'"rates":{', b'"rates":[],"x":{')), "the answer can't be read"),
        ((200, as_json(WELL).replace(b'"started":1000000.0', b'"started":"long ago"')), "the answer can't be read"),
    ],
)
def test_another_answer(answer: tuple[int, bytes], output: str) -> None:
    with serving(answer) as server:
        result = run("status", "--url", server.url)
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("collectord: ")
    assert output in line


def test_not_reachable(tmp_path: Path) -> None:
    result = run("status", "--url", f"http://127.0.0.1:{free_port()}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no answer: Connection refused" in result.stderr


def test_no_admin_port(tmp_path: Path) -> None:
    settings = tmp_path / "collectord.toml"
    settings.write_text("[admin]\nlisten = []\n")
    result = run("status", "--config", settings)
    assert result.exit_code == 2
    assert "the daemon has no admin port" in result.stderr


def test_an_admin_port_whose_url_is_not_known(tmp_path: Path) -> None:
    settings = tmp_path / "collectord.toml"
    settings.write_text('[admin]\nlisten = ["systemd:domain=INET:index=0"]\n')
    result = run("status", "--config", settings)
    assert result.exit_code == 2
    assert "the URL of 'systemd:domain=INET:index=0' can't be known: name it with --url" in result.stderr
