# SPDX-License-Identifier: Apache-2.0
"""`fwsign flash`: verified images to boards."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from fwsign.cli import answer, config, inputs, ui
from fwsign.cli.command import Command, examples, grouped
from fwsign.cli.decrypt import DecryptOptions
from fwsign.cli.flash import labels as flash_labels
from fwsign.cli.flash import options as option
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS
from fwsign.cli.verify.demands import (
    ANCHORS,
    PAYLOADS,
    PROFILE,
    Demands,
    DeviceOptions,
    gather,
)
from fwsign.errors import Failed, FwsignError
from fwsign.flash.boards.waivers import ACCEPTABLE
from fwsign.flash.esp.chips import AFTER, BEFORE
from fwsign.flash.smp.encodings import ENCODINGS

if TYPE_CHECKING:
    from fwsign.cli.flash.records import Records, Where
    from fwsign.flash.backends import ConnectOptions
    from fwsign.flash.outcome import Judge, Options
    from fwsign.flash.station import Station
    from fwsign.flash.verify_per_board import Judging
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
@grouped
def flash(
    envelope: option.ENVELOPE,
    payloads: PAYLOADS = None,
    *,
    boards: option.BoardOptions,
    anchor: ANCHORS = None,
    crl: CRLS = None,
    device: DeviceOptions,
    state: option.STATE = None,
    revocation: option.REVOCATION = None,
    waivers: option.WaiverOptions,
    data: option.RowOptions,
    decrypt: DecryptOptions,
    profile: PROFILE = "strict",
    allow_example_keys: ALLOW_EXAMPLE = False,
    link: option.LinkOptions,
    writing: option.WritingOptions,
    esp: option.EspOptions,
    receipts: option.ReceiptOptions,
    as_json: option.JSON_LINES = False,
    dry_run: option.DRY_RUN = False,
) -> None:
    """Write a verified release to boards, and verify what they hold.

    Everything is checked before the first erase: the signature as by fwsign verify, the chip, its
    flash and locks, and that the release is not older than what this very board had. Only what
    differs is written, so that a run that was cut short goes on when it is repeated. Exit status
    0 says that every board holds what was signed.
    """
    from fwsign.cli.flash.run import run

    ports = _checked_ports(boards.port or (), every=boards.every)
    _check_choices(link, writing, esp, waivers)
    _check_data(data, boards, waivers)
    wanted = _Wanted(
        envelope,
        payloads or (),
        ports,
        flash_labels.typed(boards.label or (), ports),
        waivers,
        data,
        decrypt,
        _how(link, esp),
        _options(writing, waivers, dry_run=dry_run),
        _where(state, receipts),
        boards,
        as_json=as_json,
    )
    demands = Demands(
        anchor=anchor,
        crl=crl,
        device=device,
        profile=profile,
        revocation=revocation,
        allow_example_keys=allow_example_keys,
    )
    with _told_for_each_port(wanted):
        station, records = _prepare(wanted, demands)
    if status := run(station, records, as_json=as_json, bell=boards.bell, count=boards.every):
        raise typer.Exit(status)


class _Wanted(NamedTuple):
    """The typed options, except the demands on the release.

    Args:
        envelope: the release.
        payloads: its files, as typed.
        ports: the boards' ports; none for all boards that are here.
        labels: names of slots by their ports.
        waivers: the checks that do not count, and the components that are left out.
        data: the options about per-device data.
        decrypt: the options about encrypted payloads.
        how: the way to reach boards.
        options: the options of flashing.
        where: the files that the run writes.
        boards: the options about boards.
        as_json: print lines of JSON.
    """

    envelope: Path
    payloads: Sequence[Path]
    ports: Sequence[str]
    labels: "Mapping[str, str]"
    waivers: option.WaiverOptions
    data: option.RowOptions
    decrypt: DecryptOptions
    how: "ConnectOptions"
    options: "Options"
    where: "Where"
    boards: option.BoardOptions
    as_json: bool


def _check_choices(
    link: option.LinkOptions,
    writing: option.WritingOptions,
    esp: option.EspOptions,
    waivers: option.WaiverOptions,
) -> None:
    """Refuse values that are not among those of an option."""
    from fwsign.flash.backends import KINDS

    option.check_choices(
        ("--board", link.board, KINDS),
        ("--smp-encoding", link.smp_encoding, tuple(ENCODINGS)),
        ("--before", esp.before, BEFORE),
        ("--after", esp.after, AFTER),
        ("--readback", writing.readback, ("full", "digest")),
        *(("--accept", one, ACCEPTABLE) for one in waivers.accept or ()),
    )


def _check_data(
    data: option.RowOptions, boards: option.BoardOptions, waivers: option.WaiverOptions
) -> None:
    """Refuse options about single boards that have no meaning together."""
    from fwsign.cli.flash.data import check

    option.check_permit(boards, waivers)
    check(data, boards.port or (), waivers.left_out)
    if boards.wait and data.serial:
        ui.usage("--serial and --wait exclude each other", "a serial number is for one board")


def _how(link: option.LinkOptions, esp: option.EspOptions) -> "ConnectOptions":
    from fwsign.flash.backends import ConnectOptions

    return ConnectOptions(
        link.board, link.baud, esp.before, esp.after, not esp.no_stub, link.smp_encoding
    )


def _options(
    writing: option.WritingOptions, waivers: option.WaiverOptions, *, dry_run: bool
) -> "Options":
    from fwsign.flash.outcome import Options

    readback: Literal["full", "digest"] = "full" if writing.readback == "full" else "digest"
    return Options(
        readback=readback if writing.readback else None,
        force_rewrite=writing.force_rewrite,
        dry_run=dry_run,
        accept_unverifiable=waivers.accept_unverifiable,
        waived=waivers.image_checks,
    )


def _where(state: Path | None, receipts: option.ReceiptOptions) -> "Where":
    from fwsign.cli.flash.records import Where
    from fwsign.memory.file import default_path

    if receipts.receipt_certificate and not receipts.receipt_key:
        ui.usage("--receipt-certificate is for --receipt-key", "it is the certificate of that key")
    return Where(state or default_path(), *receipts)


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
                    ui.print_json_line({**answer.refusal(error), **line})
        raise


def _prepare(wanted: _Wanted, demands: Demands) -> "tuple[Station, Records]":
    """Verify the release, find the boards, and open the files that the run writes."""
    from fwsign.cli.flash import data as flash_data
    from fwsign.cli.flash.jobs import conveyor, jobs
    from fwsign.cli.flash.records import Records
    from fwsign.cli.verify import payload_files
    from fwsign.files import read_bytes
    from fwsign.flash.station import Station
    from fwsign.flash.verify_per_board import Given, Judging
    from fwsign.format.envelope import MAX_ENVELOPE_SIZE

    settings = config.load()
    wanted = wanted._replace(labels={**settings.labels, **wanted.labels})
    trust = gather(demands, settings, without_crls="require")
    policy, dry_run = trust.policy, wanted.options.dry_run
    permit, left_out = wanted.boards.permit, wanted.waivers.left_out
    waived = _waived(wanted, policy)
    given = Given(
        read_bytes(wanted.envelope, MAX_ENVELOPE_SIZE),
        trust.anchors,
        policy._replace(product=None) if wanted.waivers.any_product else policy,
        inputs.now(),
        waived,
        None if wanted.waivers.no_rollback_check else wanted.where.state,
        remember=not dry_run,
        left_out=left_out,
        keys=wanted.decrypt.keys(),
        permit=inputs.read(permit, MAX_ENVELOPE_SIZE) if permit else None,
    )
    with inputs.expecting_envelope(wanted.envelope):
        judging = Judging(given)
    if policy.revocation != "off":
        inputs.refuse_unused(policy.crls, judging.release)
    components = judging.release.components
    _check_left_out(left_out, components)
    with payload_files.finding(components, wanted.envelope, wanted.payloads) as find:
        chips = judging.hold(find)
    _check_native(judging, settings, wanted)
    fillers = flash_data.fillers(
        wanted.data, wanted.ports, wanted.labels, judging, wanted.where.state, dry_run=dry_run
    )

    def judges(ports: Sequence[str]) -> "list[Judge]":
        found = fillers(ports)
        return [functools.partial(judging.judge, filler=found.get(port)) for port in ports]

    where = (wanted.ports, chips, wanted.how, judges)
    if wanted.boards.wait:
        station: Station = conveyor(*where, wanted.options)
    else:
        station = Station(jobs(*where), wanted.options)
    flash_labels.labels_of(station.ports, wanted.labels)  # two ports with one name are refused
    records = Records(
        wanted.where, judging.release, waived, left_out, dry_run=dry_run, labels=wanted.labels
    )
    records.open()
    return station, records


def _check_native(judging: "Judging", settings: config.Config, wanted: _Wanted) -> None:
    """Refuse images that are not signed for their chip as fwsign.toml says."""
    if settings.native.demanding and not wanted.waivers.raw:
        from fwsign.cli.verify import native  # few files have that table

        native.check_held(judging.release, judging.held, settings.native)


def _waived(wanted: _Wanted, policy: "DevicePolicy") -> tuple[str, ...]:
    """Return the names of the checks that were waived or loosened on the command line."""
    from fwsign.receipts.chain import waivers

    typed = {
        "product": wanted.waivers.any_product,
        "rollback": wanted.waivers.no_rollback_check,
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
