# SPDX-License-Identifier: Apache-2.0
"""The Typer application: every error becomes a message, a hint and an exit status here."""

import contextlib
import importlib
import itertools
import os
import re
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
fwsign flash build.bin.suit --port PORT         write it to a board, and read it back
fwsign show build.bin.suit                      see what is inside; any key or image too
fwsign COMMAND --help                           everything else"""


COMMANDS: Final = (
    "init",
    "sign",
    "verify",
    "flash",
    "ports",
    "device",
    "install",
    "trust",
    "receipts",
    "show",
    "staple",
    "pki",
    "key",
)
"""In the order of help. Each is the attribute `command` of a module of its name."""


class Group(TyperGroup):
    """Imports a command when it is used, for that is most of what starting up costs.

    `main` never lets an exception out, also under a test runner.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "name": "fwsign"})
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
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    try:
        if "\0" in "".join(arguments):
            ui.usage("an argument has a NUL byte in it")
        status = command()
        if status == ui.INTERRUPTED:  # what Typer makes of Ctrl-C
            raise KeyboardInterrupt
        ui.flush()
    except (ui.ReaderGone, SystemExit):  # such as head(1), which has enough; the second is Typer's
        status = 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort
        status, refusal = _judge(error, before_dashes)
        with contextlib.suppress(
            ui.ReaderGone, FwsignError
        ):  # where nobody can be told, the status still tells
            ui.complain(refusal["message"], refusal["hint"])
            if "--json" in before_dashes and not ui.Console.json_told:
                ui.print_json(refusal)
    ui.settle()
    return status if isinstance(status, int) else 0


def _judge(error: BaseException, arguments: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Return the exit status for an exception, and what to say about it."""
    if isinstance(error, OSError):  # of a path that could not even be looked at, or of --help
        from fwsign.atomic import io_error  # noqa: PLC0415

        named = error.filename is not None
        place = str(error.filename) if named else "standard output"
        error = io_error(error, place, "read" if named else "write")
    if isinstance(error, FwsignError):
        return ui.exit_status(error), ui.refusal(error)
    if isinstance(error, (ui.UsageFailure, _ClickUsageError)):
        return ui.USAGE, _usage(error, arguments)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        ui.end_line()
        return ui.INTERRUPTED, ui.refused("interrupted", "interrupted")
    if os.environ.get("FWSIGN_DEBUG"):
        traceback.print_exception(error)
    message = f"internal error: {type(error).__name__}: {error}"
    hint = "please report this; FWSIGN_DEBUG=1 shows where it came from"
    return ui.INTERNAL, ui.refused("internal", message, hint=hint)


def _usage(error: Any, arguments: Sequence[str]) -> dict[str, Any]:
    message = str(error)
    if isinstance(error, _ClickUsageError):  # put in our way of writing
        message = error.format_message().rstrip(".")
        message = message[:1].lower() + message[1:]
        message = re.sub("not a valid int(eger)?( range)?", "not a whole number", message)
    words = [word for word in arguments if not word.startswith("-")]
    path = [*words[:1]] if words and words[0] in COMMANDS else []
    if path == ["pki"]:
        from fwsign.cli.pki import COMMANDS as PKI_COMMANDS  # noqa: PLC0415
        from fwsign.cli.pki import KINDS  # noqa: PLC0415

        known = {*PKI_COMMANDS, *KINDS} if words[1:2] == ["issue"] else PKI_COMMANDS
        path += itertools.takewhile(known.__contains__, words[1:3])
    hint = getattr(error, "hint", None) or " ".join(["fwsign", *path, "--help shows how"])
    return ui.refused("usage", message, hint=hint)


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
    ui.Console.quiet, ui.Console.colour, ui.Console.json_told = quiet, not no_color, False
    if context.invoked_subcommand is None:
        for line in _HAPPY_PATH.splitlines():
            ui.out(line)
