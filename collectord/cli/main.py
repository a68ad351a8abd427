"""
The command C{collectord} with its subcommands, and the only place where errors become a line and an exit status.
"""

import sys
from collections.abc import Sequence
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError
from click.shell_completion import get_completion_class

from collectord import __version__
from collectord.cli.audit import audit_command
from collectord.cli.check_config import check_config
from collectord.cli.crashes import crashes
from collectord.cli.fetch import fetch
from collectord.cli.identities import stores
from collectord.cli.quarantine import quarantine
from collectord.cli.renew import renew
from collectord.cli.republish import republish
from collectord.cli.shared import CANNOT_RUN, EXIT_STATUS, WRONG, say
from collectord.cli.status import status
from collectord.cli.submit import submit
from collectord.cli.throttle import throttle
from collectord.errors import CollectordError

_NAME = "collectord"


class _Errors(click.Group):
    """Writes every error as one line on standard error, and exits with its status."""

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


@click.group(cls=_Errors, name=_NAME, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_STATUS)
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


crashes.add_command(renew)
for _command in (audit_command, check_config, crashes, fetch, quarantine, republish, status, stores, submit, throttle):
    main.add_command(_command)
