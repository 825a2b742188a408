# SPDX-License-Identifier: Apache-2.0
"""`fwsign flash`: verified images to boards."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.flash import labels as flash_labels
from fwsign.cli.flash import options as option
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, KEY_PASS, PRODUCT_OF_DEVICE
from fwsign.cli.verify.demands import (
    ANCHORS,
    MIN_SEQUENCE,
    PAYLOADS,
    PROFILE,
    REQUIRE,
    VENDOR_OF_DEVICE,
    Demands,
    gather,
)
from fwsign.errors import Failed, FwsignError
from fwsign.flash.boards.waivers import ACCEPTABLE, ERASE_DATA, RAW
from fwsign.flash.esp.chips import AFTER, BEFORE
from fwsign.flash.smp.encodings import ENCODINGS

if TYPE_CHECKING:
    from fwsign.cli.flash.data import Typed
    from fwsign.cli.flash.records import Records, Where
    from fwsign.cli.verify.demands import Trust
    from fwsign.flash.backends import ConnectOptions
    from fwsign.flash.outcome import Judge, Options
    from fwsign.flash.station import Station
    from fwsign.format.component import Component
    from fwsign.verify.policy import DevicePolicy

command = typer.Typer(rich_markup_mode=None, add_completion=False)


@command.command(
    cls=Command,
    epilog=examples(
        "fwsign flash build.bin.suit --port /dev/ttyUSB0",
        "fwsign flash build.bin.suit --all --receipt today.jsonl --receipt-key station.key",
        "fwsign flash build.bin.suit --port COM5 --anchor ca.crt --vendor acme.example \\",
        "    --product x1 --dry-run",
        "fwsign flash build.bin.suit --port sim:esp32c3",
    ),
)
def flash(
    envelope: option.ENVELOPE,
    payloads: PAYLOADS = None,
    *,
    port: option.PORTS = None,
    every: option.EVERY = False,
    label: option.LABEL = None,
    wait: option.WAIT = False,
    bell: option.BELL = False,
    anchor: ANCHORS = None,
    crl: CRLS = None,
    vendor: VENDOR_OF_DEVICE = None,
    product: PRODUCT_OF_DEVICE = None,
    min_sequence: MIN_SEQUENCE = None,
    require: REQUIRE = 1,
    state: option.STATE = None,
    revocation: option.REVOCATION = None,
    no_rollback_check: option.NO_ROLLBACK_CHECK = False,
    any_product: option.ANY_PRODUCT = False,
    accept_unverifiable: option.ACCEPT_UNVERIFIABLE = False,
    accept: option.ACCEPT = None,
    raw: option.RAW = False,
    erase_data: option.ERASE_DATA = False,
    leave_out: option.LEAVE_OUT = None,
    device_data: option.DEVICE_DATA = None,
    serial: option.SERIALS = None,
    scan: option.SCAN = False,
    next_row: option.NEXT = False,
    profile: PROFILE = "strict",
    allow_example_keys: ALLOW_EXAMPLE = False,
    board: option.BOARD = None,
    baud: option.BAUD = None,
    smp_encoding: option.SMP_ENCODING = None,
    readback: option.READBACK = None,
    force_rewrite: option.FORCE_REWRITE = False,
    before: option.BEFORE_MODE = None,
    after: option.AFTER_MODE = None,
    no_stub: option.NO_STUB = False,
    receipt: option.RECEIPT = None,
    receipt_key: option.RECEIPT_KEY = None,
    pass_: KEY_PASS = None,
    as_json: option.JSON_LINES = False,
    dry_run: option.DRY_RUN = False,
) -> None:
    """Write a verified release to boards, and verify what they hold.

    Everything is checked before the first erase: the signature as by fwsign verify, the chip, its
    flash and locks, and that the release is not older than what this very board had. Only what
    differs is written, so that a run that was cut short goes on when it is repeated. Exit status
    0 says that every board holds what was signed.
    """
    from fwsign.cli.flash.data import Typed, check
    from fwsign.cli.flash.records import Where
    from fwsign.cli.flash.run import run
    from fwsign.flash.backends import KINDS, ConnectOptions
    from fwsign.flash.outcome import Options
    from fwsign.memory.file import default_path

    ports = _checked_ports(port or (), every=every)
    accepted = tuple(dict.fromkeys(accept or ()))
    option.check_choices(
        ("--board", board, KINDS),
        ("--smp-encoding", smp_encoding, tuple(ENCODINGS)),
        ("--before", before, BEFORE),
        ("--after", after, AFTER),
        ("--readback", readback, ("full", "digest")),
        *(("--accept", one, ACCEPTABLE) for one in accepted),
    )
    data = Typed(device_data, tuple(serial or ()), scan=scan, take_next=next_row)
    check(data, ports, leave_out or ())
    if wait and serial:
        ui.usage("--serial and --wait exclude each other", "a serial number is for one board")
    demands = Demands(
        anchor=anchor,
        crl=crl,
        vendor=vendor,
        product=product,
        min_sequence=min_sequence,
        require=require,
        profile=profile,
        revocation=revocation,
        allow_example_keys=allow_example_keys,
    )
    wanted = _Wanted(
        envelope,
        payloads or (),
        ports,
        flash_labels.typed(label or (), ports),
        tuple(dict.fromkeys(leave_out or ())),
        data,
        ConnectOptions(board, baud, before, after, not no_stub, smp_encoding),
        Options(
            readback=_readback(readback),
            force_rewrite=force_rewrite,
            dry_run=dry_run,
            accept_unverifiable=accept_unverifiable,
            waived=(
                *accepted,
                *(name for name, on in ((RAW, raw), (ERASE_DATA, erase_data)) if on),
            ),
        ),
        Where(state or default_path(), receipt, receipt_key, pass_),
        any_product=any_product,
        no_rollback_check=no_rollback_check,
        as_json=as_json,
        wait=wait,
    )
    with _told_for_each_port(wanted):
        settings = config.load()
        wanted = wanted._replace(labels={**settings.labels, **wanted.labels})
        trust = gather(demands, settings, without_crls="require")
        station, records = _prepare(wanted, trust)
    if status := run(station, records, as_json=as_json, bell=bell, count=every):
        raise typer.Exit(status)


class _Wanted(NamedTuple):
    """The typed options, except the demands on the release.

    Args:
        envelope: the release.
        payloads: its files, as typed.
        ports: the boards' ports; none for all boards that are here.
        labels: names of slots by their ports.
        left_out: names of components that are left out.
        data: the options about per-device data.
        how: the way to reach boards.
        options: the options of flashing.
        where: the files that the run writes.
        any_product: take releases for any product.
        no_rollback_check: take older releases.
        as_json: print lines of JSON.
        wait: take the next board when one is pulled.
    """

    envelope: Path
    payloads: Sequence[Path]
    ports: Sequence[str]
    labels: "Mapping[str, str]"
    left_out: tuple[str, ...]
    data: "Typed"
    how: "ConnectOptions"
    options: "Options"
    where: "Where"
    any_product: bool
    no_rollback_check: bool
    as_json: bool
    wait: bool


def _checked_ports(ports: Sequence[str], *, every: bool) -> Sequence[str]:
    from fwsign.flash.backends import check_port

    if every == bool(ports):
        ui.usage("a board is named with --port PORT or --all, one of the two", "see fwsign ports")
    for port in ports:
        try:
            check_port(port)
        except Failed as error:
            ui.usage(f"--port {port}: {error.message}", "see fwsign ports; docs/flash.md has sim:")
    return ports


def _readback(typed: str | None) -> Literal["full", "digest"] | None:
    return "full" if typed == "full" else "digest" if typed else None


@contextlib.contextmanager
def _told_for_each_port(wanted: _Wanted) -> Iterator[None]:
    """Print an early refusal as one line for each port, like all other results."""
    try:
        yield
    except FwsignError as error:
        if wanted.as_json:
            ui.Console.json_told = True
            with contextlib.suppress(ui.ReaderGone, FwsignError):  # the status still tells
                for port in wanted.ports or (None,):
                    label = wanted.labels.get(port) if port else None
                    line = {"result": "refused", "port": port, "label": label}
                    ui.print_json_line({**ui.refusal(error), **line})
        raise


def _prepare(wanted: _Wanted, trust: "Trust") -> "tuple[Station, Records]":
    """Verify the release, find the boards, and open the files that the run writes."""
    from fwsign.cli.flash import data as flash_data
    from fwsign.cli.flash.jobs import conveyor, jobs
    from fwsign.cli.flash.records import Records
    from fwsign.cli.verify import payload_files
    from fwsign.cli.verify.demands import refuse_unused
    from fwsign.files import read_bytes
    from fwsign.flash.station import Station
    from fwsign.flash.verify_per_board import Given, Judging
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE

    policy, dry_run = trust.policy, wanted.options.dry_run
    waived = _waived(wanted, policy)
    given = Given(
        read_bytes(wanted.envelope, MAX_ENVELOPE_SIZE),
        trust.anchors,
        policy._replace(product=None) if wanted.any_product else policy,
        inputs.now(),
        waived,
        None if wanted.no_rollback_check else wanted.where.state,
        remember=not dry_run,
        left_out=wanted.left_out,
    )
    with inputs.expecting_envelope(wanted.envelope):
        judging = Judging(given)
    if policy.revocation != "off":
        refuse_unused(policy.crls, judging.release)
    components = judging.release.components
    _check_left_out(wanted.left_out, components)
    with payload_files.finding(components, wanted.envelope, wanted.payloads) as find:
        chips = judging.hold(find)
    fillers = flash_data.fillers(
        wanted.data, wanted.ports, wanted.labels, judging, wanted.where.state, dry_run=dry_run
    )

    def judges(ports: Sequence[str]) -> "list[Judge]":
        found = fillers(ports)
        return [functools.partial(judging.judge, filler=found.get(port)) for port in ports]

    where = (wanted.ports, chips, wanted.how, judges)
    if wanted.wait:
        station: Station = conveyor(*where, wanted.options)
    else:
        station = Station(jobs(*where), wanted.options)
    flash_labels.labels_of(station.ports, wanted.labels)  # two ports with one name are refused
    records = Records(
        wanted.where,
        judging.release,
        waived,
        wanted.left_out,
        dry_run=dry_run,
        labels=wanted.labels,
    )
    records.open()
    return station, records


def _waived(wanted: _Wanted, policy: "DevicePolicy") -> tuple[str, ...]:
    """Return the names of the checks that were waived or loosened on the command line."""
    from fwsign.receipts.chain import waivers

    typed = {
        "product": wanted.any_product,
        "rollback": wanted.no_rollback_check,
        "unverifiable": wanted.options.accept_unverifiable,
        "readback": wanted.options.readback == "digest",
    }
    names = (name for name, is_so in typed.items() if is_so)
    return (*waivers(policy), *names, *wanted.options.waived)


def _check_left_out(names: Sequence[str], components: "Sequence[Component]") -> None:
    """Refuse to leave out an unknown component, or one for flash."""
    others = [one.name for one in components if one.flash is None]
    for name in names:
        if name not in others:
            known = ", ".join(others) or "none"
            is_flash = any(name in (one.name, one.payload_name) for one in components)
            what = "is for flash, and is always written" if is_flash else "is not in the release"
            ui.usage(f'--leave-out {name}: "{name}" {what}', f"what can be left out: {known}")
