# SPDX-License-Identifier: Apache-2.0
"""`fwsign flash`: verified images to boards."""

import contextlib
import functools
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fwsign.cli import config, inputs, ui
from fwsign.cli.command import Command, examples
from fwsign.cli.demands import (
    ANCHORS,
    MIN_SEQUENCE,
    PAYLOADS,
    PROFILE,
    REQUIRE,
    VENDOR_OF_DEVICE,
    Demands,
    gather,
)
from fwsign.cli.options import ALLOW_EXAMPLE, CRLS, KEY_PASS, PRODUCT_OF_DEVICE
from fwsign.errors import Failed, FwsignError
from fwsign.flash.esp_chips import AFTER, BEFORE

if TYPE_CHECKING:
    from fwsign.cli.flash_records import Records
    from fwsign.flash.backends import How
    from fwsign.flash.engine import Judge
    from fwsign.flash.station import Job, Station

_WORST = (70, ui.REFUSED, ui.FAILED, ui.UNSUITABLE, ui.STALE, 0)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else []))

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
    envelope: Annotated[
        Path,
        typer.Argument(readable=False, metavar="ENVELOPE", help="A .suit file."),
    ],
    payloads: PAYLOADS = None,
    *,
    port: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PORT",
            help="A board: /dev/ttyUSB0, COM5, socket://HOST:PORT, rfc2217://HOST:PORT, the drive "
            "of a Pico, or sim:esp32c3; repeat for several at once.",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Every board here whose USB identity fits; see fwsign ports."),
    ] = False,
    anchor: ANCHORS = None,
    crl: CRLS = None,
    vendor: VENDOR_OF_DEVICE = None,
    product: PRODUCT_OF_DEVICE = None,
    min_sequence: MIN_SEQUENCE = None,
    require: REQUIRE = 1,
    state: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE",
            help="Where the sequence number that each board accepted is remembered. Default: a "
            "file of the user, made on first use.",
        ),
    ] = None,
    revocation: Annotated[
        str | None,
        typer.Option(
            metavar="require|off",
            help="require refuses where there are no CRLs, off ignores them. Default: require.",
        ),
    ] = None,
    no_rollback_check: Annotated[
        bool,
        typer.Option("--no-rollback-check", help="Accept older releases; remember nothing."),
    ] = False,
    any_product: Annotated[
        bool,
        typer.Option("--any-product", help="Accept releases for any product of the vendor."),
    ] = False,
    accept_unverifiable: Annotated[
        bool,
        typer.Option(
            "--accept-unverifiable",
            help="Write to boards that cannot show what they hold, such as in secure download "
            "mode.",
        ),
    ] = False,
    profile: PROFILE = "strict",
    allow_example_keys: ALLOW_EXAMPLE = False,
    board: Annotated[
        str | None,
        typer.Option(
            metavar="esp|pico-uart|pico-uf2|smp",
            help="The kind of board. Default: by the release's chip and the port.",
        ),
    ] = None,
    baud: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=300, help="Bit/s. Default: fast, and slower where that fails."
        ),
    ] = None,
    readback: Annotated[
        str | None,
        typer.Option(
            metavar="full|digest",
            help="How to verify: read all back, or let the board compute digests. Default: what "
            "is enough for the result verified.",
        ),
    ] = None,
    force_rewrite: Annotated[
        bool,
        typer.Option("--force-rewrite", help="Write also what is in the flash already."),
    ] = False,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="MODE", help=f"How an ESP gets into its boot loader: {', '.join(BEFORE)}."
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(metavar="MODE", help=f"What an ESP does in the end: {', '.join(AFTER)}."),
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE",
            help="Add a line of JSON for each board to this file. Default: to the state file.",
        ),
    ] = None,
    receipt_key: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Sign receipts with this key: a path or file: URI."),
    ] = None,
    pass_: KEY_PASS = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one line of JSON for each board."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Ask the boards and compare, but write nothing."),
    ] = False,
) -> None:
    """Write a verified release to boards, and verify what they hold.

    Everything is checked before the first erase: the signature as by fwsign verify, the chip, its
    flash and locks, and that the release is not older than what this very board had. Only what
    differs is written, so that a run that was cut short goes on when it is repeated. Exit status
    0 says that every board holds what was signed.
    """
    from fwsign.atomic import read_bytes  # noqa: PLC0415
    from fwsign.cli import received, results  # noqa: PLC0415
    from fwsign.cli.flash_records import Records, Where  # noqa: PLC0415
    from fwsign.flash.backends import KINDS, How  # noqa: PLC0415
    from fwsign.flash.engine import Options  # noqa: PLC0415
    from fwsign.flash.judge import Given, Judging  # noqa: PLC0415
    from fwsign.flash.station import Station  # noqa: PLC0415
    from fwsign.state import default_path  # noqa: PLC0415
    from fwsign.suit import MAX_ENVELOPE_SIZE  # noqa: PLC0415

    if every == bool(port):
        ui.usage("a board is named with --port PORT or --all, one of the two", "see fwsign ports")
    for option, value, known in (
        ("--board", board, KINDS),
        ("--before", before, BEFORE),
        ("--after", after, AFTER),
        ("--readback", readback, ("full", "digest")),
    ):
        if value is not None and value not in known:
            ui.usage(f'{option} "{value}"', f"choose from {', '.join(known)}")
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
    options = Options(
        readback="full" if readback == "full" else "digest" if readback else None,
        force_rewrite=force_rewrite,
        dry_run=dry_run,
        accept_unverifiable=accept_unverifiable,
    )
    waived = {
        "revocation": revocation == "off",
        "product": any_product,
        "rollback": no_rollback_check,
    }
    where = Where(
        None if no_rollback_check else state or default_path(), receipt, receipt_key, pass_
    )
    trust = gather(demands, config.load(), without_crls="require")
    given = Given(
        read_bytes(envelope, MAX_ENVELOPE_SIZE),
        trust.anchors,
        trust.policy._replace(product=None) if any_product else trust.policy,
        inputs.now(),
        tuple(name for name, off in waived.items() if off),
        where.state,
        remember=not dry_run,
    )
    with inputs.expecting_envelope(envelope):
        judging = Judging(given)
    if trust.policy.revocation != "off":
        results.refuse_unused(trust.policy.crls, judging.release)
    with received.finding(judging.release.components, envelope, payloads or ()) as find:
        chips = judging.hold(find)
    jobs = _jobs(port or (), chips, How(board, baud, before, after), judging.judge)
    status = _run(Station(jobs, options), Records(where, dry_run=dry_run), as_json=as_json)
    if status:
        raise typer.Exit(status)


def _jobs(ports: Sequence[str], chips: Sequence[str], how: "How", judge: "Judge") -> "list[Job]":
    """Return a job for each board: those named, or all that are here and fit."""
    from fwsign.flash.backends import attached, kind_for  # noqa: PLC0415
    from fwsign.flash.ports import find, vendor_of  # noqa: PLC0415
    from fwsign.flash.station import Job  # noqa: PLC0415

    here = [] if ports and how.kind else find()
    if ports:
        kinds = [how.kind or kind_for(port, chips, vendor_of(port, here)) for port in ports]
    else:
        found = [(one, how.kind or kind_for(one.port, chips, one.vendor_id)) for one in here]
        fitting = [(one.port, kind) for one, kind in found if kind in one.kinds]
        if not fitting:
            words = ", ".join(chips)
            seen = ", ".join(f"{one.port} ({one.words})" for one, _ in found) or "no port at all"
            raise Failed(
                "device.absent",
                f"no board here may be for {words}: {seen}",
                expected=words,
                found=seen,
            )
        ports, kinds = [port for port, _ in fitting], [kind for _, kind in fitting]
    return [
        Job(port, functools.partial(attached, port, how._replace(kind=kind)), judge)
        for port, kind in zip(ports, kinds, strict=True)
    ]


def _run(station: "Station", records: "Records", *, as_json: bool) -> int:
    """Flash all boards, tell of each, and return the exit status of the worst."""
    from fwsign.cli.flash_table import Table, tell  # noqa: PLC0415
    from fwsign.flash.engine import Outcome  # noqa: PLC0415

    records.open()
    statuses, errors = [0], list[Exception]()
    with (
        _stopped_by_signals(station),
        Table(station.ports) as table,
        contextlib.closing(iter(station)) as happenings,
    ):
        for job, what in happenings:
            if not isinstance(what, Outcome):
                table.show(job.port, what)
                continue
            table.end(job.port)
            receipt = records.describe(job.port, what)
            with _later(errors):
                records.keep(receipt)
            with _later(errors):
                ui.print_json_line(receipt) if as_json else tell(job.port, what)
            statuses.append(ui.exit_status(what.error) if what.error else 0)
    if errors:
        raise errors[0]
    if station.stopping:
        raise KeyboardInterrupt
    return min(statuses, key=_WORST.index)


@contextlib.contextmanager
def _later(errors: list[Exception]) -> Iterator[None]:
    """Keep an error until all boards have ended: it stops none, nor takes its receipt away."""
    try:
        yield
    except (FwsignError, ui.ReaderGone) as error:
        errors.append(error)


@contextlib.contextmanager
def _stopped_by_signals(station: "Station") -> Iterator[None]:
    """Let the first Ctrl-C end all boards in order, and a second one the program."""

    def stop(*_: Any) -> None:
        if station.stopping:
            station.abandon()
            raise KeyboardInterrupt
        station.stop()
        with contextlib.suppress(RuntimeError):  # it came in the middle of a line being printed
            ui.note("stopping: each board is left at the end of its step; once more to end at once")

    # What is ignored stays so: nohup(1) does that.
    heard = [one for one in _SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
