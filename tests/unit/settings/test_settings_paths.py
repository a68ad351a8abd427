import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from collectord.errors import ConfigError
from collectord.settings.paths import PlainPath, is_service, nested, others_can_read, relative
from collectord.settings.sanity import refuse_odd_places, warnings_about
from collectord.settings.schema import Crashmover as Moves
from collectord.settings.schema import Ledger as LedgerSettings
from collectord.settings.schema import Settings
from collectord.settings.stores import Storage
from tests.support.cases import for_each

_PATH: TypeAdapter[Path] = TypeAdapter(PlainPath)


@for_each("path", ["/srv/crashes", "crashes", ".", "/srv/my crashes", "/srv/50%", "/srv/a$", "/srv/~a"])
def test_a_path_that_is_meant(path: str) -> None:
    assert _PATH.validate_python(path) == Path(path)


@for_each(
    ("path", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("${STATE_DIRECTORY}/crashes", "placeholder"),
        ("/srv/${X}", "placeholder"),
        ("$HOME/crashes", "placeholder"),
        ("$(pwd)/crashes", "placeholder"),
        ("{{ root }}/crashes", "placeholder"),
        ("%{root}/crashes", "placeholder"),
        ("~/crashes", "~ is not expanded"),
        ("~me/crashes", "~ is not expanded"),
        ("s3://crashes", "is a URL"),
        ("file:///srv/crashes", "is a URL"),
        ("/srv/crashes ", "spaces"),
        ("/srv/crashes\n", "spaces"),
        ("/srv/\x00crashes", "can't be seen"),
    ],
)
def test_a_path_that_can_not_be_meant(path: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        _PATH.validate_python(path)


def test_one_place_in_another(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    a, b = ("a", tmp_path / "a"), ("b", tmp_path / "ab")
    assert nested([a, b, a]) == ""
    assert nested([a, ("c", tmp_path / "a" / "x" / "y")]).startswith("c = ")
    assert nested([("c", tmp_path / "b" / ".." / "a" / "y"), a]).startswith("c = ")
    assert nested([a, ("c", tmp_path / "link" / "y")]).endswith(f"lies in a = {str(tmp_path / 'a')!r}")


def settings(tmp_path: Path, *roots: str, destination: str = "", ledger: str = "", enabled: bool = True) -> Settings:
    destinations = [{"type": "fallback", "of": [{"type": "filesystem", "root": destination}]}] if destination else []
    return Settings(
        storage=[Storage(root=Path(root)) for root in roots],
        crashmover=Moves(destination=destinations, enabled=enabled),
        ledger=LedgerSettings(directory=Path(ledger) if ledger else None),
    )


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"destination": "/b"}, ""),
        (
            {"destination": "/a/x"},
            r"\[\[crashmover.destination\]\] root = '/a/x': lies in \[\[storage\]\] 0 root = '/a'",
        ),
        ({"destination": "/"}, "lies in"),
        ({"destination": "/a/x", "enabled": False}, ""),
        ({"ledger": "/a/ledger"}, ""),
        ({"ledger": "/var/ledger"}, ""),
        ({"ledger": "/a"}, r"\[ledger\] directory = '/a': is not apart from \[\[storage\]\] 0 root = '/a'"),
        ({"ledger": "/a/staging"}, "is not apart"),
        ({"ledger": "/"}, "is not apart"),
    ],
)
def test_places_beside_each_other(tmp_path: Path, made: dict[str, str], why: str) -> None:
    found = settings(tmp_path, "/a", "/aa", **made)  # type: ignore[arg-type]
    if not why:
        refuse_odd_places(found, service=True)
        return
    with pytest.raises(ConfigError, match=why):
        refuse_odd_places(found, service=True)


def test_a_relative_place_in_a_service(tmp_path: Path) -> None:
    found = settings(tmp_path, "a", "/b", destination="c")
    refuse_odd_places(found, service=False)
    with pytest.raises(ConfigError) as raised:
        refuse_odd_places(found, service=True)
    assert [line.partition(" = ")[2].partition(":")[0] for line in str(raised.value).splitlines()] == ["'a'", "'c'"]
    assert relative([("x", Path("/a"))]) == []


@for_each(
    ("environment", "has_terminal", "service"),
    [
        ({}, False, False),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, True, True),
        ({"INVOCATION_ID": "0"}, False, True),
        ({"INVOCATION_ID": "0"}, True, False),
        ({"SYSTEMD_EXEC_PID": str(os.getpid())}, True, True),
        ({"SYSTEMD_EXEC_PID": "1"}, False, False),
    ],
)
def test_a_service(environment: dict[str, str], has_terminal: bool, service: bool) -> None:
    assert is_service(environment, has_terminal=has_terminal) == service


@pytest.mark.parametrize(
    ("toml", "mode", "warned"),
    [
        ("[admin]\ntoken = 'x'\n", 0o644, True),
        ("[admin]\ntoken = 'x'\n", 0o640, False),
        ("[admin]\ntoken = ''\n", 0o644, False),
        ("[logging]\nlevel = 'info'\n", 0o644, False),
        ("[[crashmover.destination]]\nsecret_key = 'x'\n", 0o604, True),
        ("[[crashmover.destination]]\nof = [{url = 'http://h/?a=b'}]\n", 0o644, True),
        ("[[crashmover.publisher]]\nurl = 'amqp://u:p@h/'\n", 0o644, True),
        ("[[crashmover.publisher]]\nurl = 'amqp://h/'\n", 0o644, False),
    ],
)
def test_a_file_that_others_can_read(toml: str, mode: int, warned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # In a directory that they can enter: what pytest makes is closed to others.
    file = Path(f"/tmp/collectord-test-{os.getpid()}.toml")
    try:
        file.write_text(toml)
        file.chmod(mode)
        assert [f"chmod o= {file}" in warning for warning in warnings_about(file)] == [True] * warned
    finally:
        file.unlink()


def test_a_file_in_a_directory_that_others_can_not_enter(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("")
    file.chmod(0o644)
    tmp_path.chmod(0o750)
    assert not others_can_read(file)
