# SPDX-License-Identifier: Apache-2.0
"""`fwsign receipts`: show the actions on devices, and verify that the record is whole."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.options import HEAD, JSON
from fwsign.cli.receipts import prune
from fwsign.cli.receipts.source import CONFIG, FILE, STATE, opened
from fwsign.cli.receipts.table import print_rows
from fwsign.errors import Failed

if TYPE_CHECKING:
    from fwsign.receipts.chain import Receipt, Summary


command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Read and verify the record of what was done to devices.",
)

_CSV: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--csv",
        readable=False,
        metavar="OUT",
        show_default=False,
        help="Where the rows go. Default: standard output.",
    ),
]
_LINES: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--lines",
        readable=False,
        metavar="OUT",
        help="Write the receipts themselves to a new file, which fwsign receipts verify reads.",
    ),
]
_DEVICE: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="ID", help="The device that the receipts must be of."),
]
_LABELS: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="DIR",
        help="Write a text for the label of each board that is verified: serial number, MAC, "
        "product and version.",
    ),
]
_SINCE: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="From then on: RFC 3339 with a zone, or 12h ago."),
]
_UNTIL: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Before then: RFC 3339 with a zone, or 12h ago."),
]
_CRL: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        readable=False,
        metavar="PEM",
        help="With --anchor: CRLs of all CAs above what signed, such as crl/bundle.pem of the "
        "PKI; repeat for several.",
    ),
]
_FORCE: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Replace the file and labels that exist.")
]


@command.command(
    "show",
    cls=Command,
    epilog=examples("fwsign receipts show", "fwsign receipts show station-7.jsonl --json"),
)
def show(
    file: FILE = None, *, state: STATE = None, config: CONFIG = None, as_json: JSON = False
) -> None:
    """Show receipts as a table, oldest first.

    Below a receipt stand why it was refused, and what was waived or left out. Who signed is what
    the lines claim; fwsign receipts verify finds out.
    """
    from fwsign.receipts.chain import judge_lines

    with opened(file, state, config) as lines:
        receipts = judge_lines(lines)
        if as_json:
            _print_as_json(receipts)
        else:
            print_rows(receipts)


def _print_as_json(receipts: "Iterator[Receipt]") -> None:
    """Print all receipts as one object, once the last one was judged."""
    head = None

    def contents() -> Iterator[Mapping[str, Any]]:
        nonlocal head
        for one in receipts:
            head = one.digest
            yield one.content

    ui.print_json_list("receipts", contents(), lambda: {"head": head})


@command.command(
    "verify",
    cls=Command,
    epilog=examples(
        "fwsign receipts verify --key station.pub",
        "fwsign receipts verify station-7.jsonl --anchor ca.crt --head 4f5e...",
        "fwsign receipts verify station-7.jsonl --anchor ca.crt --crl bundle.pem",
    ),
)
def verify(
    file: FILE = None,
    *,
    state: STATE = None,
    config: CONFIG = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            readable=False,
            metavar="PEM",
            help="What signed: a public key or certificate; repeat for several.",
        ),
    ] = None,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(
            readable=False,
            metavar="PEM",
            help="Roots of what signed, by certificates for TLS clients; repeat for several.",
        ),
    ] = None,
    crl: _CRL = None,
    head: HEAD = None,
    device: _DEVICE = None,
    as_json: JSON = False,
) -> None:
    """Verify the chain of receipts and every signature.

    With --key or --anchor each receipt must be signed. With --anchor and --crl no certificate of a
    signer may be revoked, and each must be valid when its receipt says that it was made; without
    --crl neither is judged, since nothing proves that time. Receipts without signatures are a log,
    not evidence. That the newest ones are still there, only --head shows: keep the head elsewhere.
    --device says whose receipts they must be; with --anchor the certificate must be that device's.
    """
    from fwsign.cli import inputs
    from fwsign.receipts.chain import verify_lines

    keys, anchors = inputs.load_anchors(key or ()), inputs.load_anchors(anchor or ())
    if crl and not anchors:
        ui.usage("--crl is for --anchor", "CRLs are of the CAs below a root: --anchor ca.crt")
    crls = inputs.load_pem(crl or (), "X509 CRL", "CRL")
    with opened(file, state, config) as lines:
        found = verify_lines(lines, keys, anchors, head, device, crls=crls)
    if not found.receipts:
        raise Failed("io.format", "there are no receipts", expected="a receipt", found="none")
    if found.signed and not found.signers:
        ui.usage(
            f"{found.signed} of {found.receipts} receipts are signed, and no key was given",
            "name it with --key PEM, or its root with --anchor PEM",
        )
    if as_json:
        verdict = "verified" if found.signers else "consistent"
        ui.print_json({"verdict": verdict, **found._asdict()})
    else:
        _print_summary(found)


@command.command(
    "export",
    cls=Command,
    epilog=examples(
        "fwsign receipts export --csv today.csv --since 12h",
        "fwsign receipts export line3.jsonl --csv today.csv --labels labels",
        "fwsign receipts export --config /etc/fwsign/device.toml --lines gateway-7.jsonl",
        "fwsign receipts export --since 2026-11-22T00:00:00Z --until 2026-11-23T00:00:00Z",
    ),
)
def export(
    file: FILE = None,
    *,
    state: STATE = None,
    config: CONFIG = None,
    csv: _CSV = Path("-"),
    lines: _LINES = None,
    labels: _LABELS = None,
    since: _SINCE = None,
    until: _UNTIL = None,
    force: _FORCE = False,
) -> None:
    """Write a CSV file with a row for each board that was flashed, oldest first.

    The chain of receipts is checked, signatures are not: fwsign receipts verify does that. A cell
    that a spreadsheet would take for a formula gets an apostrophe.
    """
    from fwsign.cli import inputs
    from fwsign.cli.receipts import export as receipts_export
    from fwsign.cli.rows import as_csv, write_csv
    from fwsign.receipts.chain import judge_lines

    if lines is not None:
        if labels or since or until or csv != inputs.STREAM:
            ui.usage("--lines goes alone", "it writes the receipts as they stand")
        with opened(file, state, config) as found:
            ui.note(f"receipts in {lines}: {prune.write_lines(found, lines)}")
        return
    first = inputs.past_time(since, "--since")
    end = inputs.past_time(until, "--until")
    with opened(file, state, config) as found:
        rows = receipts_export.rows(judge_lines(found), first, end)
    text = as_csv(receipts_export.COLUMNS, rows)
    if labels is not None:
        texts = receipts_export.labels(rows)
        receipts_export.write_labels(labels, texts, force=force)
        ui.note(f"labels in {labels}: {len(texts)}")
    write_csv(csv, text, len(rows), force=force)


def _print_summary(found: "Summary") -> None:
    what = "1 receipt" if found.receipts == 1 else f"{found.receipts} receipts"
    if found.signers:
        ui.painted("verified", "green", f"{what}, signed by {', '.join(found.signers)}")
    else:
        ui.painted("consistent", "yellow", f"{what}, not signed: a log, not evidence")
    if found.since is not None:
        ui.out(f"since the head given: {found.since}")
    else:
        ui.note("that the newest ones are still there, only a head kept elsewhere shows: --head")
    if found.pruned:
        ui.out(f"pruned before: {found.pruned}, which nothing here shows")
    if found.device is not None:
        ui.out(f"device: {found.device}")
    ui.out(f"head: {found.head}")


command.command("prune", cls=Command, epilog=prune.EXAMPLES)(prune.prune)
