# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki invite`, `requests`, `approve` and `deny`: who may enrol at `fwsign pki serve`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.config import find_pki
from fwsign.cli.options import JSON, PKI, named
from fwsign.cli.pki.options import address

if TYPE_CHECKING:
    from fwsign.est.invites import Invite

_NAME: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="NAME", callback=named("peer_name"), help="The name that was invited."),
]


def register(command: typer.Typer) -> None:
    """Add the commands to an application."""
    pages = (
        (
            invite,
            "fwsign pki invite sensor-7",
            "fwsign pki invite sensor-7 sensor-8 --until 24h --json",
            "fwsign pki invite broker --kind server --host mqtt.acme.example",
            "fwsign pki invite gateway-17 --device SN-0017",
        ),
        (requests, "fwsign pki requests", "fwsign pki requests --json"),
        (approve, "fwsign pki approve sensor-7"),
        (deny, "fwsign pki deny sensor-7"),
    )
    for function, *lines in pages:
        name = function.__name__
        command.command(name, cls=Command, epilog=examples(*lines))(grouped(function))


class _Terms(NamedTuple):
    """Options: what the invited certificate may be."""

    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="client, or server.")] = (
        "client"
    )
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            callback=named("host_name"),
            help="Of a server: a name that it may have; repeat for several.",
        ),
    ] = None
    ip: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDR", help="Of a server: an address that it may have."),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="SERIAL",
            callback=named("serial_number"),
            help="Let the device of this serial number enrol by its IDevID, without a password.",
        ),
    ] = None
    again: Annotated[
        bool,
        typer.Option("--again", help="Replace the certificate of a device that has lost its key."),
    ] = False


def invite(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            callback=named("peer_name"),
            help="Names of the certificates; each is the CN, and the user name for its password.",
        ),
    ],
    *,
    pki: PKI = None,
    terms: _Terms,
    until: Annotated[
        str, typer.Option("--until", metavar="TIME", help="How long it is open: 24h, 7d.")
    ] = "7d",
    as_json: JSON = False,
) -> None:
    """Invite devices to fetch a certificate from fwsign pki serve.

    Each gets a password of its own, which works once and is shown once: the PKI keeps its digest
    alone. The certificate can have no other names. A new invitation ends the one before.
    """
    from fwsign.est import invites
    from fwsign.pki.directory import Pki

    now = inputs.now()
    end = inputs.parse_time(until, now)
    if end <= now:
        ui.usage(f"--until {until} is in the past")
    _check(names, terms, invites.KINDS)
    addresses = tuple(map(address, terms.ip or ()))
    found = Pki(find_pki(pki))
    made = []
    for name in dict.fromkeys(names):
        password = invites.invite(
            found,
            name,
            kind=terms.kind,
            domains=terms.host or (),
            addresses=addresses,
            device=terms.device,
            again=terms.again,
            until=end,
            now=now,
        )
        made.append({"name": name, "password": password, "until": end.isoformat()})
        if not as_json:
            ui.out(f"{name}  {password}" if password else name)
    if as_json:
        ui.print_json({"invited": made})
    how = (
        f"for the device {terms.device}" if terms.device else "with this password, which works once"
    )
    ui.note(f"open until {end:%Y-%m-%d %H:%M} UTC, {how}")


def _check(names: Sequence[str], terms: _Terms, kinds: Sequence[str]) -> None:
    """Refuse options that have no meaning together."""
    kind, host, ip, device, _ = terms
    if kind not in kinds:
        ui.usage(f'"{kind}" cannot be invited', f"choose from {', '.join(kinds)}")
    if kind != "server" and (host or ip):
        ui.usage("--host and --ip are for --kind server")
    if len(names) > 1 and (host or ip or device):
        ui.usage("--host, --ip and --device are for one NAME")


def requests(*, pki: PKI = None, as_json: JSON = False) -> None:
    """Show invitations, and the requests that wait for approval with the digests of their keys."""
    from fwsign.est.invites import listed
    from fwsign.pki.directory import Pki

    now = inputs.now()
    found = listed(Pki(find_pki(pki)))
    if as_json:
        ui.print_json({"requests": [_as_json(one, one.standing(now)) for one in found]})
        return
    for one in found:
        when = f"{one.since:%Y-%m-%d %H:%M}" if one.since else ""
        more = f"  key {one.key}" if one.key else f"  until {one.until:%Y-%m-%d %H:%M}"
        ui.out(f"{one.standing(now):<9} {when}  {one.kind:<6} {one.name}{more}")
    if not found:
        ui.note("nobody is invited: fwsign pki invite NAME")


def approve(name: _NAME, *, pki: PKI = None) -> None:
    """Approve the request that waits: the client fetches its certificate when it asks again.

    Compare the digest of its key with the device's first, if you can.
    """
    _decide(name, pki, approve=True)


def deny(name: _NAME, *, pki: PKI = None) -> None:
    """Deny a request that waits, or take an invitation back.

    A certificate that was issued stays good: fwsign pki revoke.
    """
    _decide(name, pki, approve=False)


def _decide(name: str, pki: Any, *, approve: bool) -> None:
    from fwsign.est.invites import decide
    from fwsign.pki.directory import Pki

    found = decide(Pki(find_pki(pki)), name, approve=approve, now=inputs.now())
    ui.out(f"{found.state}  {found.name}" + (f"  key {found.key}" if found.key else ""))


def _as_json(one: "Invite", standing: str) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "state": standing,
        "hosts": list(one.domains),
        "addresses": list(one.addresses),
        "device": one.device,
        "again": one.again,
        "until": one.until.isoformat(),
        "since": one.since.isoformat() if one.since else None,
        "key": one.key,
    }
