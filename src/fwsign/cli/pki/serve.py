# SPDX-License-Identifier: Apache-2.0
"""`fwsign pki serve`: the server of EST (RFC 7030)."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.config import find_pki
from fwsign.cli.listening import address_of, listen_place, listening, stopped_by_signals
from fwsign.cli.options import CA_PASS, KEY_PASS, PKI, named
from fwsign.cli.passphrases import Passphrases
from fwsign.cli.pki.extensions import AddressOptions, read_extras
from fwsign.cli.pki.options import COMPAT, span
from fwsign.errors import Failed
from fwsign.keys import key_file

if TYPE_CHECKING:
    from fwsign.est.server import ServerEvent
    from fwsign.pki.directory import Pki


def register(command: typer.Typer) -> None:
    """Add the command to an application."""
    command.command(
        "serve",
        cls=Command,
        epilog=examples(
            "fwsign pki serve --as est.acme.example --listen 192.0.2.7:8443",
            "fwsign pki serve --as est.acme.example --approve manual --for 90d",
            "fwsign pki serve --as est.acme.example --approve 'sensor-*' --ca-pass env:CA_PASS",
        ),
    )(grouped(serve))


def _approve(value: list[str] | None) -> list[str] | None:
    if value and "manual" in value and len(value) > 1:
        ui.usage("--approve manual excludes other rules")
    return value


class _Rules(NamedTuple):
    """Options: who gets a certificate, of what kind, and when."""

    approve: Annotated[
        list[str] | None,
        typer.Option(
            "--approve",
            metavar="auto|manual|PATTERN",
            callback=_approve,
            help="Which invited names get their certificate at once: all, none, or those that "
            "match a pattern such as 'sensor-*'; the others wait for fwsign pki approve. Repeat "
            "for several patterns. Default: auto.",
        ),
    ] = None
    lifetime: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="How long certificates are valid: 24h, 90d. Default: as is usual for their kind.",
        ),
    ] = None
    retry_after: Annotated[
        int,
        typer.Option(
            "--retry-after",
            min=1,
            max=86_400,
            metavar="SECONDS",
            help="How long a client waits before it asks again about a request that is not "
            "approved yet.",
        ),
    ] = 60


class _Rates(NamedTuple):
    """Options: how many requests are served in a minute."""

    rate: Annotated[
        int,
        typer.Option(
            "--rate",
            min=1,
            max=100_000,
            metavar="N",
            help="Limit of requests from one address in a minute.",
        ),
    ] = 60
    rate_all: Annotated[
        int,
        typer.Option(
            "--rate-all",
            min=1,
            max=1_000_000,
            metavar="N",
            help="Limit of requests from all addresses in a minute.",
        ),
    ] = 1200


_SERVER: TypeAlias = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="NAME",
        callback=named("peer_name"),
        help="The server's own certificate and key: an entry of the PKI, of kind server.",
    ),
]
_LISTEN: TypeAlias = Annotated[
    str,
    typer.Option(
        "--listen",
        metavar="ADDR:PORT",
        callback=listen_place,
        help="Where to listen. Port 0 takes a free one.",
    ),
]


def serve(
    *,
    name: _SERVER,
    pki: PKI = None,
    listen: _LISTEN = "127.0.0.1:8443",
    rules: _Rules,
    rates: _Rates,
    addresses: AddressOptions,
    compat: COMPAT = False,
    pass_: KEY_PASS = None,
    ca_pass: CA_PASS = None,
) -> None:
    """Let devices fetch their certificates by EST (RFC 7030), over TLS.

    A device needs an invitation for its first certificate: fwsign pki invite. For the next ones it
    needs the one that it has. The issuing CA's key is opened once, at the start, and stays in
    memory: run this as a user of its own. It ends with Ctrl-C or SIGTERM, after the requests in
    progress. --pass opens the key of --as, --ca-pass that of the CA.
    """
    from fwsign.est.limits import RateLimits
    from fwsign.est.rules import EnrolmentRules
    from fwsign.est.server import Server, make_context
    from fwsign.est.service import PREFIX, Service
    from fwsign.pki.authority import open_authority
    from fwsign.pki.directory import Pki
    from fwsign.pki.issuance import refuse_unable

    now = inputs.now()
    more = read_extras(addresses)
    approve = tuple(rules.approve or ("auto",))
    service_rules = EnrolmentRules(
        approve, span(rules.lifetime, now), more, compat, rules.retry_after
    )
    found = Pki(find_pki(pki))
    ca = found.issuing("client")
    refuse_unable(found, ca, now)
    _check_server(found, name)
    own_key = Path(key_file(found.key_uri(name)))  # OpenSSL reads it
    asked_for = Passphrases()
    source = asked_for.existing(ca_pass, "the issuing CA's key", "--ca-pass")
    authority = open_authority(found, ca, source)
    own = asked_for.existing(pass_, f'the key "{name}"', uri=lambda: found.key_uri(name))
    with tempfile.TemporaryDirectory() as scratch:
        chain = Path(scratch) / "chain.pem"
        chain.write_bytes(_pem(found.path(name)))
        context = make_context(chain, own_key, _authorities(found), own)
    listener = listening(listen)
    service = Service(found.directory, (ca, authority), service_rules)
    server = Server(listener, context, service, RateLimits(*rates), _tell)
    with stopped_by_signals(server.stop):
        ui.out(f"{address_of(listener)}{PREFIX}")
        ui.flush()
        server.run()
    ui.note("stopped")


def _check_server(pki: "Pki", name: str) -> None:
    """Refuse an entry that no client of EST would take for this server's."""
    from fwsign.pki.leaves import leaf_of

    leaf = leaf_of(pki.certificate(name))
    if leaf is None or leaf.kind != "server":
        raise Failed(
            "state.pki",
            f'"{name}" is not a server',
            expected="an entry of kind server",
            found=leaf.kind if leaf else "another kind",
            hint="issue one: fwsign pki issue server NAME --host NAME",
        )


def _pem(path: tuple[bytes, ...]) -> bytes:
    from fwsign.keys import pem

    return b"".join(pem.encode("CERTIFICATE", der) for der in path)


def _authorities(pki: "Pki") -> str:
    """Return all CAs and roots by other roots, in PEM: a client may send only its own."""
    from cryptography.hazmat.primitives.serialization import Encoding

    names = [*pki.authorities(), *(name for name in pki.names() if "-by-" in name)]
    return b"".join(pki.certificate(name).public_bytes(Encoding.PEM) for name in names).decode()


def _tell(event: "ServerEvent") -> None:
    """Print an event to standard error; a request's words are cleaned there."""
    status = str(event.status or "refused")
    ui.note(f"{inputs.now():%H:%M:%S} {event.address} {event.operation} {status} {event.note}")
