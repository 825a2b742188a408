# SPDX-License-Identifier: Apache-2.0
"""Receipts as a table for people."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign.cli import ui
from fwsign.errors import FwsignError

if TYPE_CHECKING:
    from fwsign.receipts.chain import Receipt

_PAGE: Final = 500
"""Rows that a table has in memory at a time."""


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
        str(content.get("result") or ("pruned" if "pruned" in content else "-")),
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
    if dropped := _part(content, "dropped"):
        counts = ", ".join(f"{code} {count}" for code, count in dropped.items())
        below.append(f"from {content.get('first')} to {content.get('last')}: {counts}")
    if pruned := _part(content, "pruned"):
        below.append(f"{pruned.get('receipts')} older receipts were pruned")
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


def _print_table(rows: Sequence[_Row], least: Sequence[int]) -> list[int]:
    """Print rows; return the widths of the columns, which are no smaller than those before."""
    cleaned = [[ui.clean(cell) for cell in row.cells] for row in rows]
    columns = zip(*cleaned, strict=True)
    widths = [max(was, *map(len, one)) for was, one in zip(least, columns, strict=True)]
    room = ui.columns()
    if room is not None and sum(widths) + 2 * (len(widths) - 1) > room:
        _print_blocks(cleaned, rows, room)
        return widths
    for cells, row in zip(cleaned, rows, strict=True):
        line = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        ui.out("  ".join(line).rstrip())
        for below in row.below:
            ui.out(f"  {below}")
    return widths


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


def print_rows(receipts: "Iterator[Receipt]") -> None:
    """Print a table, page by page: a long record must not take much memory."""
    header = _Row(("time", "board", "release", "result", "signed by (claimed)"))
    rows, widths, printed = [header], [0] * len(header.cells), False
    try:
        for one in receipts:
            rows.append(_row(one))
            if len(rows) == _PAGE:
                widths, printed = _print_table(rows, widths), True
                rows = [header] if ui.columns() is not None else []
    except FwsignError:
        if len(rows) > 1:  # the lines before a wrong one
            _print_table(rows, widths)
        raise
    if rows[1:] or not printed:
        _print_table(rows, widths)
