"""
The command C{collectord} with its subcommands, and the only place where errors become a line and an exit status.
"""

import sys
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError
from click.shell_completion import get_completion_class

from collectord import __version__
from collectord.cli.shared import CANNOT_RUN, EXIT_STATUS, WRONG, say
from collectord.errors import CollectordError

_NAME = "collectord"


_SUBCOMMANDS: Mapping[str, str] = {
    "audit": "audit:audit_command",
    "check-config": "check_config:check_config",
    "crashes": "crashes:crashes",
    "fetch": "fetch:fetch",
    "index": "index:index",
    "quarantine": "quarantine:quarantine",
    "republish": "republish:republish",
    "status": "status:status",
    "stores": "identities:stores",
    "submit": "submit:submit",
    "throttle": "throttle:throttle",
    "top": "top:top",
}
"""Where each subcommand is in C{collectord.cli}."""


def _subcommand(name: str) -> click.Command | None:
    """Import a subcommand, which is done once somebody asks for it: all of them together take as long as most do."""
    where = _SUBCOMMANDS.get(name)
    if where is None:
        return None
    command = resolve_name(f"collectord.cli.{where}")
    assert isinstance(command, click.Command)
    return command


class _Main(click.Group):
    """Imports a subcommand when it is needed, and writes every error as one line before it exits with its status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_SUBCOMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _subcommand(cmd_name)

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        extra["standalone_mode"] = False
        try:
            status = super().main(args, prog_name or _NAME, **extra)
        except NoArgsIsHelpError as e:
            e.show()
            sys.exit(CANNOT_RUN)
        except click.ClickException as e:
            where = e.ctx.command_path if isinstance(e, click.UsageError) and e.ctx is not None else _NAME
            say(f"{e.format_message()} Try '{where} --help'.")
            sys.exit(CANNOT_RUN)
        except click.Abort:
            say("stopped")
            sys.exit(WRONG)
        except CollectordError as e:
            say(e)
            sys.exit(CANNOT_RUN)
        except OSError as e:
            say(f"{e.filename}: {e.strerror}" if e.filename else e)
            sys.exit(CANNOT_RUN)
        sys.exit(status or 0)


@click.group(cls=_Main, name=_NAME, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_STATUS)
@click.version_option(__version__, prog_name=_NAME, message="%(prog)s %(version)s")
def main() -> None:
    """
    Send crashes to a collector, look after those in its stores, and try out its rules and settings.

    The daemon itself is started by twistd: "twistd --nodaemon --pidfile= collectord".
    """


@main.command(epilog=EXIT_STATUS)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print a completion script for a shell.

    With it SHELL completes the subcommands and options of this command.

    \b
    bash:  collectord completion bash > ~/.local/share/bash-completion/completions/collectord
    zsh:   collectord completion zsh > "${fpath[1]}/_collectord"
    fish:  collectord completion fish > ~/.config/fish/completions/collectord.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, _NAME, f"_{_NAME.upper()}_COMPLETE").source())
