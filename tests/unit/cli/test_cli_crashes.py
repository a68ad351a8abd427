import json
import os
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from collectord.model import CrashEvent
from collectord.observe.journal.lines import format_event, journal_path
from tests.unit.cli.command import (
    CRASH_ID,
    DUMPS,
    NEIGHBOUR,
    STRANGER,
    files_below,
    keep,
    lines,
    put_aside,
    raw_crash_of,
    run,
)

HOSTILE = "\x1b]0;o\x07[bold red]x[/]:bomb: \u202egnp.exe\nnext \ud800\x9b31m"

# ——— list ———


def test_list(root: Path) -> None:
    keep(root)
    keep(root, raw_crash_of(STRANGER, ProductName="Firefox"), new=False)
    listed = run("crashes", "list")
    assert listed.exit_code == 0
    first, second = (line.split() for line in listed.stdout.splitlines() if "-" in line)
    assert first == [STRANGER, "2016-06-23T15:19:49", "Firefox", "1.0", "1.2", "KiB", "accept_everything", "2"]
    assert second == [CRASH_ID, "2016-06-22T15:19:49", "Fenix", "1.0", "1.2", "KiB", "accept_everything", "2", "new"]
    assert listed.stderr == ""


def test_an_id_is_whole_on_a_narrow_terminal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.cli.shared._NO_TERMINAL_WIDTH", 80)
    keep(root)
    put_aside(root, keep(root, raw_crash_of(NEIGHBOUR)))
    assert f" {CRASH_ID} " in run("crashes", "list").stdout
    assert f" {NEIGHBOUR} " in run("quarantine", "list").stdout


def test_list_for_scripts(root: Path) -> None:
    keep(root)
    assert lines(run("crashes", "list", "--json")) == [
        {
            "crash_id": CRASH_ID,
            "submitted": "2016-06-22T15:19:49.123456+00:00",
            "product": "Fenix",
            "version": "1.0",
            "size": 1234,
            "rule": "accept_everything",
            "fingerprint": None,
            "dumps": ["extra_2", "upload_file_minidump"],
            "new": True,
            "store": str(root),
        }
    ]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--day", "20160622"], [CRASH_ID, NEIGHBOUR]),
        (["--day", "2016-06-23"], [STRANGER]),
        (["--day", "20160622", "--day", "20160623"], [STRANGER, CRASH_ID, NEIGHBOUR]),
        (["--day", "today"], []),
        (["--product", "Firefox"], [STRANGER]),
        (["--product", "firefox"], []),
        (["--version", "1.0", "--product", "Fenix"], [CRASH_ID, NEIGHBOUR]),
        (["--version", "2.0"], []),
        (["--since", "2016-06-23"], [STRANGER]),
        (["--since", "2016-06-22T15:19:49.2"], [STRANGER]),
        (["--since", "2016-06-22T15:19"], [STRANGER, CRASH_ID, NEIGHBOUR]),
        (["--since", "2d"], []),
        (["--fingerprint", "1:0c"], []),
        (["--new"], [STRANGER, CRASH_ID]),
        (["--limit", "2"], [STRANGER, CRASH_ID]),
        (["--limit", "0"], [STRANGER, CRASH_ID, NEIGHBOUR]),
    ],
)
def test_list_some(root: Path, options: list[str], wanted: list[str]) -> None:
    keep(root)
    keep(root, raw_crash_of(NEIGHBOUR), new=False)
    keep(root, raw_crash_of(STRANGER, ProductName="Firefox"))
    listed = run("crashes", "list", "--json", *options)
    assert [line["crash_id"] for line in lines(listed)] == wanted
    assert ("there are more than 2" in listed.stderr) == (options == ["--limit", "2"])


def test_list_several_stores(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    keep(tmp_path / "b")
    settings = tmp_path / "collectord.toml"
    settings.write_text("[[storage]]\nroot = 'a'\n[[storage]]\nroot = 'b'\n[[storage]]\nroot = 'missing'\n")
    listed = run("crashes", "list", "--config", settings, "--json")
    assert [line["store"] for line in lines(listed)] == [str(tmp_path / "b")]
    assert f"there is no store at {tmp_path}/missing" in listed.stderr
    assert listed.exit_code == 0


def test_list_what_can_not_be_read(root: Path) -> None:
    for raw_crash in (b"{", b"[1]", b"\xff", b"[" * 100_000, b"{}", b'{"metadata": [], "submitted_timestamp": 5}'):
        place = keep(root, new=False)
        Path(place.raw_crash).write_bytes(raw_crash)
        listed = run("crashes", "list")
        assert (listed.exit_code, CRASH_ID in listed.stdout) == (0, True), raw_crash
        [line] = lines(run("crashes", "list", "--json"))
        assert line["crash_id"] == CRASH_ID
        assert bool(line.get("problem")) == (not raw_crash.startswith(b"{") or raw_crash == b"{")


@pytest.mark.parametrize(
    ("args", "output"),
    [
        (["list", "--store", "nowhere"], "collectord: there is no store at "),
        (["list", "--config", "nowhere.toml"], "collectord: nowhere.toml: No such file or directory"),
        (["list", "--day", "20160631"], "'20160631' is not a day"),
        (["list", "--limit", "-1"], "-1"),
        (["show", CRASH_ID], f"collectord: {CRASH_ID}: not in "),
        (["show", "8f63752c"], "'8f63752c' is not a crash id"),
        (["show", f"a{CRASH_ID}"], "is not a crash id"),
        (["show", "../../../../etc/passwd"], "is not a crash id"),
        (["show", f"{CRASH_ID[:-6]}169999"], "is not a crash id"),
        (["show"], "Missing argument"),
        (["verify"], "Name crashes, or give --day, or --all."),
        (["verify", "--all", CRASH_ID], "Name crashes"),
        (["remove", "--yes"], "Name crashes, or give --older-than."),
        (["remove", "--yes", CRASH_ID], "not in"),
        (["export", CRASH_ID, "there"], "not in"),
        (["export", CRASH_ID], "Missing argument"),
    ],
)
def test_what_can_not_be_done(root: Path, args: list[str], output: str) -> None:
    result = run("crashes", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("collectord: ")
    assert output in line


def test_list_in_the_order_of_ids(root: Path) -> None:
    ids = [f"{first}0{second}0752c-57c6-4e5d-b2cf-cabde2160622"[-36:] for first in "8b30" for second in "f1"]
    for crash_id in ids:
        keep(root, raw_crash_of(crash_id))
    assert [line["crash_id"] for line in lines(run("crashes", "list", "--json"))] == sorted(ids)


# ——— show ———


@pytest.mark.parametrize("prefix", ["", "bp-", "CrashID=bp-", " my.own_prefix-"])
def test_show(root: Path, prefix: str) -> None:
    place = keep(root, raw_crash_of(Comments="it fell over"))
    shown = run("crashes", "show", f"{prefix}{CRASH_ID}")
    assert shown.exit_code == 0
    for text in (
        CRASH_ID,
        "Comments",
        "it fell over",
        "stays: nothing moves it from here",
        str(root),
        "accept_everything",
    ):
        assert text in shown.stdout
    for name in DUMPS:
        assert place.dump(name) in shown.stdout


SECOND = {"COLLECTORD_STORAGE": '[{"root": "crashes"}, {"root": "second"}]'}
DESTINATION = {"COLLECTORD_CRASHMOVER__DESTINATION": '[{"type": "filesystem", "root": "/srv/there"}]'}


@pytest.mark.parametrize(
    ("store", "env", "state"),
    [
        ("crashes", {}, "stays: nothing moves it from here"),
        ("crashes", DESTINATION, "new: it waits to be moved"),
        ("crashes", DESTINATION | {"COLLECTORD_CRASHMOVER__ENABLED": "false"}, "stays: nothing moves it from here"),
        ("crashes", SECOND, "stays: nothing moves it from here"),
        ("second", SECOND, "new: it waits to be moved"),
        ("second", SECOND | DESTINATION, "new: it waits to be moved"),
    ],
    ids=["no destination", "a destination", "none at present", "the primary", "to the primary", "both"],
)
def test_a_new_crash_waits_only_where_something_moves_it(
    tmp_path: Path, root: Path, store: str, env: dict[str, str], state: str
) -> None:
    keep(tmp_path / store)
    (tmp_path / "second").mkdir(exist_ok=True)
    shown = run("crashes", "show", CRASH_ID, env=env)
    assert [line.split(maxsplit=1)[1].rstrip() for line in shown.stdout.splitlines() if line.startswith("state")] == [
        state
    ]


def test_show_for_scripts(root: Path) -> None:
    place = keep(root, new=False)
    [[shown]] = [json.loads(run("crashes", "show", "--json", CRASH_ID).stdout)]
    assert shown["raw_crash"] == raw_crash_of()
    assert (shown["new"], shown["quarantined"]) == (False, None)
    assert shown["files"] == {"raw_crash": place.raw_crash, **{name: place.dump(name) for name in DUMPS}}


def test_show_in_every_store(tmp_path: Path) -> None:
    keep(tmp_path / "a")
    put_aside(tmp_path / "b", keep(tmp_path / "b"))
    stores = ["--store", tmp_path / "a", "--store", tmp_path / "b"]
    one, other = json.loads(run("crashes", "show", CRASH_ID, "--json", *stores).stdout)
    assert (one["store"], one["quarantined"]) == (str(tmp_path / "a"), None)
    assert (other["store"], other["quarantined"]) == (
        str(tmp_path / "b"),
        "2016-06-22T15:20:00+00:00 a dump is missing",
    )
    assert "in the quarantine: 2016-06-22T15:20:00+00:00 a dump is missing" in run(
        "crashes", "show", CRASH_ID, *stores
    ).stdout.replace("\n", "")


def test_show_a_broken_one(root: Path) -> None:
    Path(keep(root).raw_crash).write_text("{")
    shown = run("crashes", "show", CRASH_ID)
    assert shown.exit_code == 1
    assert "the raw crash can't be read" in shown.stderr


@pytest.mark.parametrize("args", [["list"], ["show", CRASH_ID], ["verify", "--all"]])
def test_nothing_reaches_the_terminal(root: Path, args: list[str]) -> None:
    raw_crash = raw_crash_of(ProductName=HOSTILE, Version="[link=http://x]v[/link]", rule=HOSTILE)
    raw_crash[HOSTILE] = {"nested": HOSTILE}
    keep(root, {**raw_crash, "version": HOSTILE})
    put_aside(root, keep(root, raw_crash_of(STRANGER), new=False), HOSTILE.replace("\ud800", ""))
    for command in (["crashes", *args], ["quarantine", "list"], ["quarantine", "show", STRANGER]):
        result = run(*command)
        said = result.stdout + result.stderr
        assert not {c for c in said if c != "\n" and not c.isprintable()}, command
        if "verify" not in command:
            assert "[bold red]x[/]" in said
            assert ":bomb:" in said


def test_show_cuts_long_annotations(root: Path) -> None:
    keep(root, raw_crash_of(Huge="x" * 1_000_000))
    shown = run("crashes", "show", CRASH_ID).stdout
    assert len(shown) < 50_000
    assert "(1,000,000 characters)" in shown


# ——— verify ———


def test_verify(root: Path) -> None:
    keep(root)
    keep(root, raw_crash_of(STRANGER))
    for args in (["--all"], [CRASH_ID], [CRASH_ID, STRANGER], ["--day", "20160622"]):
        verified = run("crashes", "verify", *args)
        assert (verified.exit_code, verified.stderr) == (0, "")
        assert ", none broken" in verified.stdout


def test_verify_finds_what_is_wrong(root: Path) -> None:
    place = keep(root)
    keep(root, raw_crash_of(NEIGHBOUR))
    Path(place.dump("extra_2")).write_bytes(b"another thing!")
    verified = run("crashes", "verify", "--all")
    assert verified.exit_code == 1
    wrong, total = verified.stdout.splitlines()
    assert wrong.startswith(f"{CRASH_ID}: the dump extra_2 has the checksum ")
    assert total == "2 crashes, 1 broken"
    assert [bool(line["problems"]) for line in lines(run("crashes", "verify", "--all", "--json"))] == [True, False]
    assert run("crashes", "verify", NEIGHBOUR).exit_code == 0
    assert run("crashes", "verify", "--day", "20160623").exit_code == 0


@pytest.mark.parametrize(
    ("harm", "output"),
    [
        (lambda place: Path(place.dump("extra_2")).unlink(), "the dump extra_2 is missing"),
        (lambda place: Path(place.dump("more")).write_bytes(b"x"), "the dump more has no checksum"),
        (lambda place: Path(place.raw_crash).write_text("{"), "the raw crash can't be read"),
        (lambda place: Path(place.raw_crash).write_text('{"uuid": "x"}'), "the raw crash says uuid 'x'"),
    ],
)
def test_verify_finds(root: Path, harm: object, output: str) -> None:
    place = keep(root)
    harm(place)  # type: ignore[operator]
    verified = run("crashes", "verify", CRASH_ID)
    assert verified.exit_code == 1
    assert output in verified.stdout


def test_verify_of_another_collectors(root: Path) -> None:
    raw_crash = raw_crash_of()
    del raw_crash["metadata"]
    keep(root, raw_crash)
    assert run("crashes", "verify", "--all").exit_code == 0


# ——— export ———


def test_export(root: Path, tmp_path: Path) -> None:
    keep(root)
    keep(root, raw_crash_of(NEIGHBOUR))
    there = tmp_path / "new" / "there"
    exported = run("crashes", "export", CRASH_ID, there)
    assert exported.exit_code == 0
    assert json.loads((there / f"{CRASH_ID}.json").read_bytes()) == raw_crash_of()
    assert (there / f"{CRASH_ID}.dump").read_bytes() == DUMPS["upload_file_minidump"]
    assert (there / f"{CRASH_ID}.extra_2.dump").read_bytes() == DUMPS["extra_2"]
    assert sorted(exported.stdout.split()) == sorted(map(str, there.iterdir()))
    assert {path.stat().st_mode & 0o777 for path in there.iterdir()} == {0o600}


def test_export_overwrites_nothing(root: Path, tmp_path: Path) -> None:
    keep(root)
    target = tmp_path / "there" / f"{CRASH_ID}.json"
    target.parent.mkdir()
    target.write_text("mine")
    refused = run("crashes", "export", CRASH_ID, target.parent)
    assert refused.exit_code == 2
    assert "is there already" in refused.stderr
    assert target.read_text() == "mine"
    assert run("crashes", "export", "--force", CRASH_ID, target.parent).exit_code == 0
    assert json.loads(target.read_text()) == raw_crash_of()


@pytest.mark.parametrize("name", ["there.tar", "there.tar.gz", "there.tgz"])
def test_export_to_a_tar_file(root: Path, tmp_path: Path, name: str) -> None:
    keep(root)
    put_aside(root, keep(root, raw_crash_of(STRANGER)))
    assert run("crashes", "export", "--tar", CRASH_ID, STRANGER, tmp_path / name).exit_code == 0
    with tarfile.open(tmp_path / name) as tar:
        found = tar.getnames()
    assert sorted(found) == sorted(
        f"{i}{end}" for i in (CRASH_ID, STRANGER) for end in (".json", ".dump", ".extra_2.dump")
    )
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith("gz")


def test_export_to_standard_output(root: Path) -> None:
    keep(root)
    exported = run("crashes", "export", "--tar", CRASH_ID, "-")
    with tarfile.open(fileobj=BytesIO(exported.stdout_bytes)) as tar:
        assert len(tar.getnames()) == 3


# ——— remove ———


def test_remove(root: Path) -> None:
    keep(root, raw_crash_of(NEIGHBOUR))
    before = files_below(root)
    keep(root)
    removed = run("crashes", "remove", "--yes", CRASH_ID)
    assert (removed.exit_code, removed.stdout) == (0, f"{CRASH_ID}: removed from {root}\n")
    assert f"{CRASH_ID} was not moved, and may be nowhere else" in removed.stderr
    assert files_below(root) == before


def test_remove_asks(root: Path) -> None:
    keep(root, new=False)
    before = files_below(root)
    for answer in ("n\n", "\n", ""):
        refused = run("crashes", "remove", CRASH_ID, stdin=answer)
        assert refused.exit_code == 1
        assert "Remove 1 crash from" in refused.stderr
        assert "was not moved" not in refused.stderr
        assert files_below(root) == before
    assert run("crashes", "remove", CRASH_ID, stdin="y\n").exit_code == 0
    assert files_below(root) == {}


def test_remove_one_that_can_not_be_read(root: Path) -> None:
    Path(keep(root).raw_crash).write_text("{")
    assert run("crashes", "remove", "--yes", CRASH_ID).exit_code == 0
    assert files_below(root) == {}


def test_remove_from_the_quarantine_too(root: Path) -> None:
    put_aside(root, keep(root))
    keep(root)
    assert run("crashes", "remove", "--yes", CRASH_ID).exit_code == 0
    assert files_below(root) == {}
    assert list((root / "quarantine").iterdir()) == []


def test_remove_nothing_where_one_is_unknown(root: Path) -> None:
    keep(root)
    before = files_below(root)
    assert run("crashes", "remove", "--yes", CRASH_ID, STRANGER).exit_code == 2
    assert files_below(root) == before


@pytest.mark.parametrize("left", [["link"], ["dump"], ["link", "dump"]])
def test_remove_what_is_left_of_a_crash(root: Path, left: list[str]) -> None:
    place = keep(root)
    keep(root, raw_crash_of(NEIGHBOUR))
    os.unlink(place.raw_crash)
    if "link" not in left:
        os.unlink(place.link)
    if "dump" not in left:
        for name in DUMPS:
            os.unlink(place.dump(name))
    assert run("crashes", "remove", "--yes", CRASH_ID).exit_code == 0
    assert [path for path in files_below(root) if CRASH_ID in path] == []
    assert len(files_below(root)) == 4
    assert run("crashes", "remove", "--yes", CRASH_ID).exit_code == 2


# ——— a crash that was moved ———


@pytest.fixture
def moved(root: Path, tmp_path: Path) -> Path:
    """The settings of a daemon that has moved a crash; a queue has its id."""
    journals = tmp_path / "journals"
    journals.mkdir()
    about: dict[str, str | int] = {"rule": "accept_all", "product": "Fenix", "version": "1.0", "size": 1234}
    about["details"] = "took=4 received=812 dumps=upload_file_minidump:1284096:minidump,log:10:text/plain"
    place = {"place": f"s3://crashes/v1/raw_crash/20160622/{CRASH_ID}", "details": "took=44"}
    events = [
        CrashEvent(at=1466608789.1, crash_id=CRASH_ID, kind="kept", where=str(root), about=about),
        CrashEvent(at=1466608789.2, crash_id=CRASH_ID, kind="moved", where="s3://crashes", about=place),
        CrashEvent(at=1466608789.3, crash_id=CRASH_ID, kind="published", where="redis queue"),
        CrashEvent(at=1466608789.4, crash_id=CRASH_ID, kind="removed", where=str(root)),
    ]
    journal_path(journals, "20160622").write_text("".join(map(format_event, events)))
    config = tmp_path / "moved.toml"
    config.write_text(
        f"[[storage]]\nroot = {json.dumps(str(root))}\n[ledger]\ndirectory = {json.dumps(str(journals))}\n"
    )
    root.mkdir(exist_ok=True)
    return config


def test_show_what_was_moved(moved: Path) -> None:
    shown = run("crashes", "show", CRASH_ID, "--config", str(moved))
    assert shown.exit_code == 0
    for text in (
        "in no store any more",
        f"s3://crashes/v1/raw_crash/20160622/{CRASH_ID}",
        "2016-06-22T15:19:49.200Z   moved",
        "redis queue",
        "Fenix",
        "1.0",
        "1234",
        "accept_all",
        f"collectord fetch {CRASH_ID}",
        "44 ms",
        "upload_file_minidump",
        "text/plain",
    ):
        assert text in shown.stdout
    assert "nnotation" not in shown.stdout


def test_show_what_was_moved_for_scripts(moved: Path) -> None:
    [[found]] = json.loads(f"[{run('crashes', 'show', CRASH_ID, '--json', '--config', str(moved)).stdout}]")
    assert found["places"] == [f"s3://crashes/v1/raw_crash/20160622/{CRASH_ID}"]
    assert [event["what"] for event in found["events"]] == ["kept", "moved", "published", "removed"]
    assert (found["ProductName"], found["throttle_rule"]) == ("Fenix", "accept_all")


def test_what_was_erased_is_not_brought_back(moved: Path, tmp_path: Path) -> None:
    [journal] = (tmp_path / "journals").iterdir()
    erased = CrashEvent(at=1466608790, crash_id=CRASH_ID, kind="erased", where="s3://crashes")
    journal.write_text(journal.read_text() + format_event(erased))
    shown = run("crashes", "show", CRASH_ID, "--config", str(moved))
    assert shown.exit_code == 0
    assert "in no store any more: erased" in shown.stdout
    assert "fetch" not in shown.stdout


def test_a_move_between_our_own_stores_is_none_to_a_destination(root: Path, moved: Path, tmp_path: Path) -> None:
    [journal] = (tmp_path / "journals").iterdir()
    kept = journal.read_text().splitlines(keepends=True)[0]
    home = CrashEvent(at=1466608790, crash_id=CRASH_ID, kind="moved", where=str(root))
    journal.write_text(kept + format_event(home))
    shown = run("crashes", "show", CRASH_ID, "--config", str(moved))
    assert shown.exit_code == 1
    assert "no line says that it was moved" in shown.stdout
    assert "fetch" not in shown.stdout


def test_what_was_removed_by_hand_is_wrong(moved: Path, tmp_path: Path) -> None:
    [journal] = (tmp_path / "journals").iterdir()
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    shown = run("crashes", "show", CRASH_ID, "--config", str(moved))
    assert shown.exit_code == 1
    assert "no line says that it was moved" in shown.stdout
    assert "fetch" not in shown.stdout
    assert run("crashes", "show", CRASH_ID, "--json", "--config", str(moved)).exit_code == 1


def test_show_what_nobody_knows(moved: Path) -> None:
    shown = run("crashes", "show", STRANGER, "--config", str(moved))
    assert shown.exit_code == 2
    assert f"{STRANGER}: not in" in shown.stderr


def test_in_a_certain_store_the_journal_does_not_count(moved: Path, root: Path) -> None:
    assert run("crashes", "show", CRASH_ID, "--store", str(root), "--config", str(moved)).exit_code == 2
