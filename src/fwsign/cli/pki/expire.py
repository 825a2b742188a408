# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki expire`."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fwsign.cli import answer, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.config import find_pki, pki_words
from fwsign.cli.options import JSON, PKI
from fwsign.cli.quoting import quoted
from fwsign.spans import plain_span

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    often, count in the last third of their time, and so do certificates of ten days or less. What
    is below a revoked CA has ended; what is
    revoked itself, and the CRL of a revoked CA, needs nothing and does not count.
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
        ui.out(_line(one, now))
    if not found:
        ui.note(
            f"no certificate in use ends before {now + span:%Y-%m-%d}, "
            "and no CRL is in the last third of its time"
        )
        return
    if below := {one.below for one in found if one.revoked}:
        _say_how(directory, below, pki)
    if any(one.kind == "certificate" and not one.revoked for one in found):
        ui.note("renew certificates with: fwsign pki renew NAME; a root with: fwsign pki rotate")
    for name in _left_roots(directory, found):
        ui.note(
            f'devices that know only the root "{name}" refuse all after its end: give them another'
        )
    if {one.kind for one in found} & {"CRL"}:
        ui.note("make new CRLs with: fwsign pki crl")
    raise typer.Exit(answer.STALE)


def _line(one: "Ending", now: datetime) -> str:
    why = ""
    if one.below is not None:
        why = f', below "{one.below}"' + (", which was revoked" if one.revoked else "")
    when = "dead" if one.revoked else _when(one.end, now)
    return f"{one.end:%Y-%m-%d}  {when:<16} {one.kind} {one.name}  {one.path}{why}"


def _say_how(directory: Path, below: set[str | None], pki: Path | None) -> None:
    """Say how to replace what is below revoked CAs."""
    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_names import line_of

    again = " ".join(map(quoted, ("fwsign", "pki", "renew", "--all", *pki_words(pki))))
    for ca in reversed([one for one in Pki(directory).in_use() if one in below]):
        another = ("fwsign", "pki", "renew", line_of(ca), "--new-key", *pki_words(pki))
        again = f"{' '.join(map(quoted, another))}; then {again}"
    ui.note(f"replace what is below a revoked CA: {again}")


def _left_roots(directory: Path, found: "Sequence[Ending]") -> list[str]:
    """Return the roots that end, and from which others have taken over."""
    from fwsign.pki.directory import Pki
    from fwsign.pki.entry_names import is_root

    ending = [one.name for one in found if one.kind == "certificate" and is_root(one.name)]
    pki = Pki(directory)
    if not ending or pki.flat:
        return []
    now = pki.issuer_of(pki.certificate(pki.issuing()))
    return [name for name in ending if name != now]


def _when(end: datetime, now: datetime) -> str:
    if end < now:
        return f"{plain_span(now - end)} ago"
    return f"in {plain_span(end - now)}"


def _as_json(one: "Ending", now: datetime) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "name": one.name,
        "path": str(one.path),
        "end": one.end.isoformat(),
        "expired": one.revoked or one.end < now,
        "below": one.below,
        "below_revoked": one.revoked,
    }
