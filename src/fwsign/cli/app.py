# SPDX-License-Identifier: Apache-2.0
"""The Typer application: every error becomes a message, a hint and an exit status here."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
import typer.main
from typer.core import TyperGroup

from fwsign import __version__
from fwsign.cli import ui
from fwsign.errors import FwsignError

_ClickUsageError: Any = typer.BadParameter.__mro__[1]

_HAPPY_PATH = """\
fwsign init --org Acme --vendor acme.example    make a PKI and fwsign.toml, once
fwsign sign build.bin                           write build.bin.suit
fwsign verify build.bin.suit                    check signature, path, payload
fwsign show build.bin.suit                      see what is inside; any key or image too
fwsign COMMAND --help                           everything else"""


COMMANDS: Final = ("init", "sign", "verify", "show", "staple", "pki")
"""In the order of help. Each is the attribute `command` of a module of its name."""


class Group(TyperGroup):
    """Imports a command when it is used, for that is most of what starting up costs.

    `main` never lets an exception out, also under a test runner.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = dict.fromkeys(COMMANDS, self)  # the names; get_command has the values

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command and return it; None if there is none of that name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"fwsign.cli.{cmd_name}")
        return typer.main.get_command(module.command)

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Run a command line and exit with its status."""
        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        sys.exit(run(lambda: super(Group, self).main(args, *more, **extra), given))


def run(command: Any, arguments: Sequence[str]) -> int:
    """Run `command` and return the exit status of what it did or raised."""
    as_json = "--json" in arguments
    try:
        status = command()
        sys.stdout.flush()
    except FwsignError as error:
        _report(error, as_json=as_json)
        return ui.exit_status(error)
    except (ui.UsageFailure, _ClickUsageError) as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        _report_usage(message, getattr(error, "hint", None), as_json=as_json)
        return ui.USAGE
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("", err=True)
        ui.complain("interrupted")
        return ui.INTERRUPTED
    except BrokenPipeError:  # the reader, such as head(1), has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort, with its own status
        if os.environ.get("FWSIGN_DEBUG"):
            traceback.print_exc()
        message = f"internal error: {type(error).__name__}: {error}"
        ui.complain(message, "please report this; FWSIGN_DEBUG=1 shows where it came from")
        if as_json:
            ui.print_json({"verdict": "refused", "code": "internal", "message": message})
        return ui.INTERNAL
    return status if isinstance(status, int) else 0


def _report(error: FwsignError, *, as_json: bool) -> None:
    if as_json:
        ui.print_json(ui.refusal(error))
    ui.complain(error, ui.hint_for(error))


def _report_usage(message: str, hint: str | None, *, as_json: bool) -> None:
    message = message[:1].lower() + message[1:].rstrip(".")
    hint = hint or "fwsign COMMAND --help shows how"
    if as_json:
        ui.print_json({"verdict": "refused", "code": "usage", "message": message, "hint": hint})
    ui.complain(message, hint)


app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        ui.out(f"fwsign {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def fwsign(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Never use colour.")] = False,
) -> None:
    """Sign firmware and updates once; every hop after that checks the same signature."""
    del version
    ui.Console.quiet, ui.Console.colour = quiet, not no_color
    if context.invoked_subcommand is None:
        ui.out(_HAPPY_PATH)
