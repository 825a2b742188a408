# SPDX-License-Identifier: Apache-2.0
"""`fwsign collect`: the server that takes the receipts of a fleet."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.collect_quotas import QuotaOptions
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.listening import address_of, listen_place, listening, stopped_by_signals
from fwsign.cli.options import KEY_PASS

if TYPE_CHECKING:
    from fwsign.collect.app import CollectorEvent
    from fwsign.collect.clients import Clients
    from fwsign.collect.service import CollectorService
    from fwsign.collect.store import FleetStore

command = typer.Typer(rich_markup_mode=None, add_completion=False)

_STORE: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="The database: sqlite:///FILE, or postgresql://HOST/DATABASE. A password is in a "
        "file that libpq reads (~/.pgpass, PGPASSFILE, a service file), never in the address.",
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


class _Tls(NamedTuple):
    """Options: the server's certificate, and whose clients count."""

    cert: Annotated[
        Path,
        typer.Option(
            "--cert",
            readable=False,
            metavar="PEM",
            help="The server's certificate, then the CAs between it and the root.",
        ),
    ]
    key: Annotated[
        Path,
        typer.Option("--key", readable=False, metavar="PEM", help="The key of --cert, in a file."),
    ]
    client_ca: Annotated[
        list[Path],
        typer.Option(
            "--client-ca",
            readable=False,
            metavar="PEM",
            help="Roots of TLS clients, and CAs below them; repeat for several.",
        ),
    ]


class _Mqtt(NamedTuple):
    """Options: a broker that receipts come by as well."""

    mqtt: Annotated[
        str | None,
        typer.Option(
            "--mqtt", metavar="URL", help="Take receipts from a broker too: mqtts://HOST."
        ),
    ] = None
    mqtt_cert: Annotated[
        Path | None,
        typer.Option(
            "--mqtt-cert",
            readable=False,
            metavar="PEM",
            help="The collector's certificate for the broker: one of a TLS client.",
        ),
    ] = None
    mqtt_key: Annotated[
        Path | None,
        typer.Option("--mqtt-key", readable=False, metavar="PEM", help="Its key, in a file."),
    ] = None
    mqtt_ca: Annotated[
        Path | None,
        typer.Option(
            "--mqtt-ca",
            readable=False,
            metavar="PEM",
            help="Roots of the broker. Default: the system's.",
        ),
    ] = None


class _Judging(NamedTuple):
    """Options: which receipts count."""

    anchor: Annotated[
        list[Path],
        typer.Option(
            "--anchor",
            readable=False,
            metavar="PEM",
            help="Roots of the certificates that sign receipts; repeat for several.",
        ),
    ]
    crl: Annotated[
        list[Path] | None,
        typer.Option(
            "--crl",
            readable=False,
            metavar="PEM",
            help="CRLs of all CAs above clients and signers, such as crl/bundle.pem of the PKI. "
            "They are read again when they change; repeat for several.",
        ),
    ] = None
    station: Annotated[
        list[str] | None,
        typer.Option(
            "--station",
            metavar="NAME",
            help="A client that may hand in receipts of other devices; repeat for several.",
        ),
    ] = None
    allow_unsigned: Annotated[
        bool,
        typer.Option(
            "--allow-unsigned",
            help="Take receipts without a signature too: they are a log, not evidence.",
        ),
    ] = False


class _Looking(NamedTuple):
    """Options: who may look at the page."""

    viewer: Annotated[
        list[str] | None,
        typer.Option(
            "--viewer",
            metavar="NAME",
            help="A client that may see the fleet in the browser, at /; repeat for several.",
        ),
    ] = None
    silent: Annotated[
        str,
        typer.Option(
            "--silent", metavar="TIME", help="On that page a device is silent after that time."
        ),
    ] = "7d"


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign collect --store sqlite:///fleet.db --cert collector.pem --key collector.key \\",
        "    --client-ca ca.crt --anchor ca.crt --crl bundle.pem",
        "fwsign collect --store postgresql://db.acme.example/fleet --listen 192.0.2.7:8444 \\",
        "    --cert collector.pem --key collector.key --client-ca ca.crt --anchor ca.crt",
    ),
)
@grouped
def collect(
    *,
    store: _STORE,
    listen: _LISTEN = "127.0.0.1:8444",
    tls: _Tls,
    judging: _Judging,
    mqtt: _Mqtt,
    looking: _Looking,
    storing: QuotaOptions,
    pass_: KEY_PASS = None,
) -> None:
    """Take the receipts of a fleet, and keep those that count.

    Clients show certificates: TLS is mutual.

    Each line must be the next one of its chain and signed by the device that it names, and the
    device itself must hand it in, or a --station. Missing lines, forks and forged lines are noted.
    It ends with Ctrl-C or SIGTERM, after the requests in progress.
    """
    from fwsign.collect.library import need_libraries

    need_libraries()
    from fwsign.collect.app import OVERALL, PER_CLIENT, CollectorApp
    from fwsign.collect.clients import require_clients
    from fwsign.collect.serve import serve
    from fwsign.collect.service import CollectorService
    from fwsign.est.limits import RateLimits
    from fwsign.est.server import make_context

    clients = _clients(tls.client_ca, judging)
    own = inputs.passphrase_source(pass_, f"the key {tls.key}")
    authorities = "".join(inputs.read_pem(path).decode("latin-1") for path in tls.client_ca)
    context = require_clients(make_context(tls.cert, tls.key, authorities, own))
    with _opened(store) as opened:
        service = CollectorService(opened, inputs.now, storing.quotas())
        limits = RateLimits(PER_CLIENT, OVERALL, str)
        app = CollectorApp(service, clients, inputs.now, _tell, limits)
        intake = _intake(mqtt, service, clients)
        routes = _routes(opened, clients, looking)
        listener = listening(listen)
        address = address_of(listener)
        early: list[bool] = []  # signals before uvicorn has its own handlers

        def ready(stop: Callable[[], None]) -> None:
            _say(address)
            if early:
                stop()

        with intake, stopped_by_signals(lambda: early.append(True)):
            serve(listener, context, app.asgi(*routes), ready)
    ui.note("stopped")


def _intake(
    given: _Mqtt, service: "CollectorService", clients: "Clients"
) -> AbstractContextManager[object]:
    """Return the intake from a broker; one of nothing without --mqtt."""
    if given.mqtt is None:
        if given.mqtt_cert or given.mqtt_key or given.mqtt_ca:
            ui.usage("--mqtt-cert, --mqtt-key and --mqtt-ca are for --mqtt")
        return contextlib.nullcontext()
    from fwsign.collect.broker import BrokerIntake, BrokerPlace
    from fwsign.gateway.config.fetch_rules import FetchRules
    from fwsign.mqtt.address import parse_broker
    from fwsign.mqtt.terms import need_library

    if (given.mqtt_cert is None) != (given.mqtt_key is None):
        ui.usage("--mqtt-cert and --mqtt-key go together")
    need_library()
    broker = parse_broker(given.mqtt)
    rules = FetchRules(
        (broker.host,), given.mqtt_ca, client_cert=given.mqtt_cert, client_key=given.mqtt_key
    )
    return BrokerIntake(BrokerPlace(broker, rules), service, clients, _tell)


def _routes(store: "FleetStore", clients: "Clients", looking: _Looking) -> list[Any]:
    """Return the routes for those who may look; none if nobody may."""
    silence = inputs.parse_span(looking.silent)
    if not looking.viewer:
        return []
    from fwsign.collect.viewers import Viewers
    from fwsign.fleet.web import FleetPages

    pages = FleetPages(store, silence, inputs.now)
    return [Viewers(pages, clients, looking.viewer, inputs.now, _tell).route()]


def _say(address: str) -> None:
    from fwsign.collect.app import PATH

    ui.out(f"{address}{PATH}")
    ui.flush()


def _clients(client_ca: Sequence[Path], judging: _Judging) -> "Clients":
    from fwsign.collect.clients import Clients, HeldCrls, split_roots

    roots, pool = split_roots(inputs.load_pem(client_ca, "CERTIFICATE", "certificate"))
    crls = HeldCrls(
        judging.crl or (),
        lambda paths: tuple(inputs.load_pem(paths, "X509 CRL", "CRL")),
        ui.note,
    )
    return Clients(
        roots,
        pool,
        tuple(inputs.load_anchors(judging.anchor)),
        crls,
        frozenset(judging.station or ()),
        judging.allow_unsigned,
    )


def _opened(address: str) -> "FleetStore":
    from fwsign.collect.store import open_store

    try:
        return open_store(address)
    except ValueError as error:
        ui.usage(str(error), "sqlite:///fleet.db, or postgresql://HOST/DATABASE with ~/.pgpass")


def _tell(event: "CollectorEvent") -> None:
    """Print an event to standard error; a client's words are cleaned there."""
    ui.note(f"{inputs.now():%H:%M:%S} {event.client} {event.status} {event.note}")
