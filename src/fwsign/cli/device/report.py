# SPDX-License-Identifier: Apache-2.0
"""`fwsign report`: send receipts to a collector; and the same after each run of a gateway."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from fwsign.cli import answer, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.device.command import CONFIG, load_device
from fwsign.cli.options import JSON
from fwsign.errors import FwsignError

if TYPE_CHECKING:
    from fwsign.gateway.config.device import Device
    from fwsign.gateway.report.sending import Reported

SECONDS: Final = 600
"""The longest time for a file of receipts."""

command = typer.Typer(rich_markup_mode=None, add_completion=False)

_PEM: TypeAlias = Path | None


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign report",
        "fwsign report --once --config /etc/fwsign/device.toml",
        "fwsign report line3.jsonl --to https://collector.acme.example/receipts \\",
        "    --client-cert station.pem --client-key station.key --ca ca.crt",
    ),
)
def report(
    file: Annotated[
        Path | None,
        typer.Argument(
            readable=False,
            metavar="[FILE]",
            help="Receipts of fwsign flash. Default: those of the gateway of device.toml.",
        ),
    ] = None,
    *,
    config: CONFIG = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With FILE: the collector, https."),
    ] = None,
    client_cert: Annotated[
        _PEM,
        typer.Option(
            "--client-cert",
            readable=False,
            metavar="PEM",
            help="With FILE: the station's certificate, then the CAs between it and the root.",
        ),
    ] = None,
    client_key: Annotated[
        _PEM,
        typer.Option("--client-key", readable=False, metavar="PEM", help="With FILE: its key."),
    ] = None,
    ca: Annotated[
        _PEM,
        typer.Option(
            "--ca",
            readable=False,
            metavar="PEM",
            help="With FILE: roots of the collector. Default: the system's.",
        ),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="For timers: after tries that failed, wait longer and longer."),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Send the receipts that wait to a collector.

    A gateway does this after each install, poll and trial, if [report] in device.toml names a
    collector. Nothing is removed here: receipts are sent again until they are acknowledged. Which
    ones of a FILE are, is remembered in FILE.reported.
    """
    if (file is None) != (to is None):
        ui.usage("FILE and --to go together", "fwsign report FILE --to https://HOST/receipts")
    if file is None and (client_cert or client_key or ca):
        ui.usage("--client-cert, --client-key and --ca are for FILE", "device.toml has [fetch]")
    if file is not None and to is not None:
        found: Reported | None = _file(file, to, client_cert, client_key, ca)
    else:
        found = _gateway(load_device(config), once=once)
    _show(found, as_json=as_json)


def _gateway(device: "Device", *, once: bool) -> "Reported | None":
    from fwsign.gateway.report.run import report as send  # after the line was understood

    if device.report.to is None:
        hint = 'put to = "https://HOST/receipts" into [report]'
        ui.usage(f"{device.path} names no collector", hint)
    return send(device, inputs.now(), only_if_due=once)


def _file(file: Path, to: str, client_cert: _PEM, client_key: _PEM, ca: _PEM) -> "Reported":
    from urllib.parse import urlsplit

    from fwsign.gateway.config.fetch_rules import FetchRules  # after the line was understood
    from fwsign.gateway.config.report_rules import is_collector
    from fwsign.gateway.https.credentials import ClientKey
    from fwsign.gateway.report.run import send_to
    from fwsign.gateway.report.spool import FileSpool

    if (client_cert is None) != (client_key is None):
        ui.usage("--client-cert and --client-key go together")
    if not to.startswith("https:") or not is_collector(to):
        ui.usage(f'"{to}" is not https', "fwsign report FILE --to https://HOST/receipts")
    hosts = (urlsplit(to).hostname or "",)
    rules = FetchRules(hosts, ca, client_cert=client_cert, client_key=client_key)
    own = ClientKey("--client-cert", "--client-key")
    return send_to(FileSpool(file), to, rules, inputs.now(), SECONDS, client=own)


def _show(found: "Reported | None", *, as_json: bool) -> None:
    sent, head = (found.sent, found.head) if found else (0, None)
    finished = found is None or found.finished
    if as_json:
        verdict = "reported" if finished else "incomplete"
        ui.print_json(answer.accepted(verdict, (), None, sent=sent, head=head))
        return
    ui.painted("reported", "green", "1 receipt" if sent == 1 else f"{sent} receipts")
    if not finished:
        ui.note("the time was up: the others are sent next time")


@contextlib.contextmanager
def reporting(device: "Device") -> Iterator[None]:
    """Send a gateway's receipts after a run; a failure is told, and changes nothing."""
    try:
        yield
    finally:
        report_quietly(device)


def report_quietly(device: "Device") -> None:
    """Send a gateway's receipts if it is time; a failure is told, and changes nothing."""
    if device.report.to is None:
        return
    from fwsign.gateway.report.run import report as send  # only where receipts are reported

    ui.flush()  # the result of the run first
    try:
        send(device, inputs.now(), only_if_due=True)
    except FwsignError as error:
        ui.note(f"receipts wait to be sent: {error.message}")
