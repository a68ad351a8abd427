import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import click
import pytest

from collectord import __version__
from collectord.cli import shared
from collectord.cli.main import main
from collectord.cli.shared import EXIT_STATUS, clean, shortened, tracked
from collectord.errors import ConfigError
from tests.support.cases import for_each
from tests.unit.cli.command import run


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@for_each(("path", "command"), list(commands()), ids=lambda found: " ".join(found) if type(found) is tuple else "")
def test_help(path: tuple[str, ...], command: click.Command) -> None:
    helped = run(*path, "--help")
    assert helped.exit_code == 0
    assert " ".join(EXIT_STATUS.split()) in " ".join(helped.stdout.split())
    assert command.get_short_help_str(200), "there is something to say"
    assert "C{" not in helped.stdout
    if not isinstance(command, click.Group) and path != ("completion",):
        assert {"--config", "--json"} <= {option for parameter in command.params for option in parameter.opts}


def test_the_docs_tell_of_all_commands_and_options() -> None:
    text = (Path(__file__).parents[3] / "docs" / "command.rst").read_text("utf-8")
    for path, command in commands():
        assert path[-1] in text
        for parameter in command.params:
            if path != ("audit",) and isinstance(parameter, click.Option):
                assert any(f"``{option}" in text for option in parameter.opts), (path, parameter.opts)


def test_version() -> None:
    assert run("--version").stdout == f"collectord {__version__}\n"


@for_each(
    ("args", "output"),
    [
        (["crash"], "No such command 'crash'"),
        (["--nope"], "No such option"),
        (["crashes", "list", "--nope"], "No such option"),
        (["crashes", "nope"], "No such command 'nope'"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["crashes", "show", "\x1b[31m"], "\\x1b[31m"),
    ],
)
def test_wrong_usage_is_one_line(args: list[str], output: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("collectord: ")
    assert output in line
    assert line.endswith("--help'.")
    assert "\x1b" not in line


def test_what_help_has_to_say() -> None:
    assert '"twistd --nodaemon --pidfile= collectord"' in " ".join(run("--help").stdout.split())
    assert "yyyymmdd, yyyy-mm-dd, today or yesterday" in " ".join(run("crashes", "list", "--help").stdout.split())


def test_without_a_command_it_helps() -> None:
    result = run()
    assert result.exit_code == 2
    assert "check-config" in result.stderr
    assert "Traceback" not in result.stderr


@for_each("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_COLLECTORD_COMPLETE" in result.stdout


def test_completing() -> None:
    env = {"_COLLECTORD_COMPLETE": "bash_complete", "COMP_WORDS": "collectord crashes ver", "COMP_CWORD": "2"}
    assert run(env=env).stdout == "plain,verify\n"


@pytest.mark.slow
def test_a_pipe_that_closes(root: Path) -> None:
    """As with C{| head}."""
    command = "from collectord.cli.main import main; main()"
    ran = subprocess.run(
        f"{sys.executable} -c '{command}' throttle explain - --rules mozilla --json | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        input=b"{}",
        capture_output=True,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert ran.stderr == b""
    assert ran.returncode in (0, 1)


def test_clean() -> None:
    assert clean("plain ü 漢字 😀") == "plain ü 漢字 😀"
    assert clean("\x1b[31m\n\t\x7f\x9b\u202e\u2028\u200b\ud800\xa0") == (
        "\\x1b[31m\\n\\t\\x7f\\x9b\\u202e\\u2028\\u200b\\ud800\\xa0"
    )
    assert clean(None) == "None"
    assert clean(ConfigError("a")) == "a"


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("slow", [True, False])
def test_progress_goes_to_a_terminal_only_and_what_is_shown_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    out, terminal = StringIO(), _Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(shared, "_SILENT_S", -1.0 if slow else 60.0)
    for number in tracked(range(3), "counting", 3):
        shared.show(f"{number}")
        shared.show_json(number)
    assert out.getvalue() == "0\n0\n1\n1\n2\n2\n"
    assert ("counting" in terminal.getvalue()) == slow


def test_no_progress_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    err = StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(shared, "_SILENT_S", -1.0)
    assert list(tracked(range(3), "counting")) == [0, 1, 2]
    assert err.getvalue() == ""


def test_progress_is_over_when_nobody_wants_more(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(shared, "_SILENT_S", -1.0)
    some = tracked(range(3), "counting")
    next(some)
    next(some)
    del some
    assert terminal.getvalue().endswith("\x1b[2K"), "the bar is gone"


def test_shortened() -> None:
    assert shortened("x" * 400) == "x" * 400
    assert shortened("\x00" * 2000, 2) == "\\x00\\x00… (2,000 characters)"
