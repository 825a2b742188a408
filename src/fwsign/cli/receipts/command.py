# SPDX-License-Identifier: Apache-2.0
"""`fwsign receipts`: show the actions on devices, and verify that the record is whole."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import typer

from fwsign.cli import ui
from fwsign.cli.command import Command, Group, examples
from fwsign.cli.options import HEAD, JSON
from fwsign.errors import Failed, FwsignError

if TYPE_CHECKING:
    from fwsign.receipts.chain import Receipt, Summary


command = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    add_completion=False,
    help="Read and verify the record of what was done to devices.",
)

_FILE: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        readable=False,
        metavar="[FILE]",
        help="Receipts, one on each line. Default: those in your memory of boards.",
    ),
]
_STATE: TypeAlias = Annotated[
    Path | None,
    typer.Option("--state", readable=False, metavar="FILE", help="Those in another memory."),
]


_CONFIG: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config", readable=False, metavar="FILE", help="Those of the gateway of a device.toml."
    ),
]


@command.command(
    "show",
    cls=Command,
    epilog=examples("fwsign receipts show", "fwsign receipts show station-7.jsonl --json"),
)
def show(
    file: _FILE = None, *, state: _STATE = None, config: _CONFIG = None, as_json: JSON = False
) -> None:
    """Show receipts as a table, oldest first.

    Below a receipt stand why it was refused, and what was waived or left out. Who signed is what
    the lines claim; fwsign receipts verify finds out.
    """
    from fwsign.receipts.chain import judge_lines

    with _lines(file, state, config) as lines:
        receipts = judge_lines(lines)
        if as_json:
            found = list(receipts)
            contents = [one.content for one in found]
            ui.print_json({"receipts": contents, "head": found[-1].digest if found else None})
            return
        rows = [_Row(("time", "board", "release", "result", "signed by (claimed)"))]
        try:
            rows += map(_row, receipts)
        except FwsignError:
            if len(rows) > 1:  # the lines before a wrong one
                _print_table(rows)
            raise
        _print_table(rows)


@command.command(
    "verify",
    cls=Command,
    epilog=examples(
        "fwsign receipts verify --key station.pub",
        "fwsign receipts verify station-7.jsonl --anchor ca.crt --head 4f5e...",
    ),
)
def verify(
    file: _FILE = None,
    *,
    state: _STATE = None,
    config: _CONFIG = None,
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
    head: HEAD = None,
    as_json: JSON = False,
) -> None:
    """Verify the chain of receipts and every signature.

    With --key or --anchor each receipt must be signed. Dates and revocation of certificates are not
    judged, since nothing proves when a receipt was made. Receipts without signatures are a log, not
    evidence. That the newest ones are still there, only --head shows: keep the head elsewhere.
    """
    from fwsign.cli import inputs
    from fwsign.receipts.chain import verify_lines

    keys, anchors = inputs.load_anchors(key or ()), inputs.load_anchors(anchor or ())
    with _lines(file, state, config) as lines:
        found = verify_lines(lines, keys, anchors, head)
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
_FORCE: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Replace the file and labels that exist.")
]


@command.command(
    "export",
    cls=Command,
    epilog=examples(
        "fwsign receipts export --csv today.csv --since 12h",
        "fwsign receipts export line3.jsonl --csv today.csv --labels labels",
        "fwsign receipts export --since 2026-11-22T00:00:00Z --until 2026-11-23T00:00:00Z",
    ),
)
def export(
    file: _FILE = None,
    *,
    state: _STATE = None,
    config: _CONFIG = None,
    csv: _CSV = Path("-"),
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
    from fwsign.files import write_atomic
    from fwsign.receipts.chain import judge_lines

    first = receipts_export.time_of(since, "--since")
    end = receipts_export.time_of(until, "--until")
    with _lines(file, state, config) as lines:
        rows = receipts_export.rows(judge_lines(lines), first, end)
    text = receipts_export.as_csv(rows)
    if labels is not None:
        texts = receipts_export.labels(rows)
        receipts_export.write_labels(labels, texts, force=force)
        ui.note(f"labels in {labels}: {len(texts)}")
    if csv == inputs.STREAM:
        for line in text.splitlines():
            ui.out(line)
    else:
        write_atomic(csv, text.encode(), overwrite=force)
        ui.note(f"rows in {csv}: {len(rows)}")


@contextmanager
def _lines(file: Path | None, state: Path | None, config: Path | None) -> Iterator[Iterator[str]]:
    from fwsign.memory.file import default_path
    from fwsign.memory.state import State
    from fwsign.receipts.file import read_lines

    if sum(one is not None for one in (file, state, config)) > 1:
        ui.usage("more than one of a file, --state and --config", "receipts are in one of them")
    if file:
        yield read_lines(file)
        return
    if config:
        from fwsign.gateway.config import load  # only on a gateway

        state = load(config).state
    with State.open(state or default_path()) as memory:
        yield memory.receipt_lines()


class _Row(NamedTuple):
    """A receipt as a line of a table, and lines below it."""

    cells: tuple[str, ...]
    below: tuple[str, ...] = ()


def _row(receipt: "Receipt") -> _Row:
    content = receipt.content
    cells = (
        str(content.get("clock") or "-"),
        _board(content),
        _release(_part(content, "release")),
        str(content.get("result") or "-"),
        f"{receipt.claim:.16}" if receipt.claim else "-",
    )
    below = [
        f"{words}: {', '.join(map(str, names))}"
        for words, names in (
            ("waived", content.get("waived")),
            ("left out", content.get("left_out")),
        )
        if names and isinstance(names, list)
    ]
    if serial := _part(content, "device_data").get("serial"):
        below.append(f"serial: {serial}")
    if content.get("code"):
        below.append(f"{content['code']}: {content.get('message') or '-'}")
    return _Row(cells, tuple(below))


def _board(content: Mapping[str, Any]) -> str:
    """Return the subject of a receipt: a slot and its board, else a port, else this gateway."""
    board, device = _part(content, "board"), _part(content, "device")
    label = content.get("label")
    own = board.get("identity") or (None if label else content.get("port"))
    name = " ".join(str(one) for one in (label, own) if one) or device.get("product") or "-"
    return f"{name} (simulated)" if board.get("simulated") is True else str(name)


def _release(release: Mapping[str, Any]) -> str:
    product = "/".join(str(release[name]) for name in ("vendor", "product") if release.get(name))
    number = release.get("sequence_number")
    parts = (product, release.get("version"), None if number is None else f"#{number}")
    return " ".join(str(part) for part in parts if part) or "-"


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _print_table(rows: Sequence[_Row]) -> None:
    cleaned = [[ui.clean(cell) for cell in row.cells] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cleaned, strict=True)]
    room = ui.columns()
    if room is not None and sum(widths) + 2 * (len(widths) - 1) > room:
        _print_blocks(cleaned, rows, room)
        return
    for cells, row in zip(cleaned, rows, strict=True):
        line = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        ui.out("  ".join(line).rstrip())
        for below in row.below:
            ui.out(f"  {below}")


def _print_blocks(cleaned: Sequence[Sequence[str]], rows: Sequence[_Row], room: int) -> None:
    """Print a block of lines for each receipt, since the table is wider than the terminal."""
    names, *contents = cleaned
    width = max(map(len, names[1:]))
    for cells, row in zip(contents, rows[1:], strict=True):
        ui.out(cells[0])
        for name, cell in zip(names[1:], cells[1:], strict=True):
            if 2 * (width + 4) < room:
                _print_folded(f"  {name:{width}}  {cell}", width + 4, room)
            else:
                _print_folded(f"  {name}: {cell}", 4, room)
        for below in row.below:
            _print_folded(f"  {below}", 4, room)


def _print_folded(text: str, indent: int, room: int) -> None:
    folded = textwrap.wrap(ui.clean(text), max(room, 2 * indent), subsequent_indent=" " * indent)
    for line in folded:
        ui.out(line)


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
    ui.out(f"head: {found.head}")
