# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki expire`."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki
from fwsign.cli.options import JSON, PKI

if TYPE_CHECKING:
    from fwsign.pki.expiry import Ending


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
    command.command(
        "expire",
        cls=Command,
        epilog=examples("fwsign pki expire", "fwsign pki expire --within 26w --json"),
    )(expire)


def expire(
    *,
    within: Annotated[
        str, typer.Option(metavar="TIME", help="How far to look ahead: 90d, or RFC 3339.")
    ] = "90d",
    pki: PKI = None,
    as_json: JSON = False,
) -> None:
    """Show what ends soon; for a job that runs every week.

    The exit status is 3 if there is something, 0 if not. CRLs, which are made to be renewed
    often, count in the last third of their time. What is revoked does not count.
    """
    from fwsign.pki.expiry import ending

    now = inputs.now()
    span = inputs.parse_time(within, now) - now
    if span.total_seconds() < 0:
        ui.usage(f"--within {within} is in the past: it is {now.isoformat()}")
    directory = find_pki(pki)
    found = ending(directory, span, now=now)
    if as_json:
        ui.print_json({"at": now.isoformat(), "ending": [_as_json(one, now) for one in found]})
    for one in [] if as_json else found:
        ui.out(f"{one.end:%Y-%m-%d}  {_when(one.end, now):<16} {one.kind} {one.name}  {one.path}")
    if not found:
        ui.note(
            f"no certificate in use ends before {now + span:%Y-%m-%d}, "
            "and no CRL is in the last third of its time"
        )
        return
    if {one.kind for one in found} & {"certificate"}:
        ui.note("renew certificates with: fwsign pki renew NAME; a root with: fwsign pki rotate")
    if {one.kind for one in found} & {"CRL"}:
        ui.note("make new CRLs with: fwsign pki crl")
    raise typer.Exit(ui.STALE)


def _when(end: datetime, now: datetime) -> str:
    days = abs((end - now).days)
    if end < now:
        return f"{days} days ago" if days != 1 else "a day ago"
    return f"in {days} days" if days != 1 else "in a day"


def _as_json(one: "Ending", now: datetime) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "name": one.name,
        "path": str(one.path),
        "end": one.end.isoformat(),
        "expired": one.end < now,
    }
