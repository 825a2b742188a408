# SPDX-License-Identifier: Apache-2.0
"""`fwsign version`: the same as `fwsign --version`."""

import typer

from fwsign import __version__
from fwsign.cli import ui
from fwsign.cli.command import Command, examples

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(cls=Command, epilog=examples("fwsign version"))
def version() -> None:
    """Show the version."""
    ui.out(f"fwsign {__version__}")
