# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki log`, the older name of `fwsign log show --pki`."""

from typing import Annotated

import typer

from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki
from fwsign.cli.options import HEAD, JSON, PKI


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
    command.command(
        "log",
        cls=Command,
        hidden=True,
        epilog=examples("fwsign log show --pki pki", "fwsign pki log release --json"),
    )(log)


def log(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|SERIAL]", help="Only what concerns this entry, or this serial number."
        ),
    ] = None,
    *,
    pki: PKI = None,
    head: HEAD = None,
    as_json: JSON = False,
) -> None:
    """Show the log of a PKI, as fwsign log show does."""
    from fwsign.cli.log import lines
    from fwsign.cli.log.command import tell
    from fwsign.pki.directory import Pki
    from fwsign.pki.log import FILE

    file = Pki(find_pki(pki)).directory / FILE
    tell(
        file,
        head,
        lambda content: name is None or lines.concerns(content, name),
        name or "",
        as_json=as_json,
    )
