# SPDX-License-Identifier: Apache-2.0
"""`fwsign help`: the help page of fwsign, or of a command."""

from typing import Annotated, Any

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, examples

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    "help", cls=Command, epilog=examples("fwsign help sign", "fwsign help pki issue signer")
)
def help_(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", help="A command. Default: fwsign itself."),
    ] = None,
) -> None:
    """Show the help page of a command."""
    here: Any = context.find_root()
    for word in words or ():
        if not hasattr(here.command, "commands"):
            ui.usage(f"{here.command_path} has no commands", f"fwsign help {here.command_path[7:]}")
        name, found, _ = here.command.resolve_command(here, [word])
        here = type(here)(found, info_name=name, parent=here)
    ui.out_page(here.get_help())
