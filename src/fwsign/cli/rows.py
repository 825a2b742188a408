# SPDX-License-Identifier: Apache-2.0
"""Rows as CSV, with texts of strangers in them."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from fwsign.cli import inputs, ui

_FORMULA: Final = re.compile("(^|;)(?=[\t\r\n]|\\s*[=+@\uff1d\uff0b\uff0d\uff20-])")
"""The beginning of a formula; many spreadsheets begin another cell after a semicolon, too."""


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Return rows as CSV; no cell begins as a formula does, which spreadsheets would run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_inert(row[column]) for column in columns])
    return text.getvalue()


def cell(value: object) -> str:
    """Return a value as a cell: empty for None, a list with spaces, without control characters."""
    if value is None:
        return ""
    return ui.clean(" ".join(map(str, value)) if isinstance(value, list | tuple) else value)


def write_csv(path: Path, text: str, count: int, *, force: bool) -> None:
    """Write CSV to a file, or to standard output if the path is `-`.

    Raises:
        Failed: `io.*`.
    """
    if path == inputs.STREAM:
        for line in text.splitlines():
            ui.out(line)
        return
    from fwsign.files import write_atomic  # not for standard output

    write_atomic(path, text.encode(), overwrite=force)
    ui.note(f"rows in {path}: {count}")


def _inert(cell: str) -> str:
    return _FORMULA.sub(r"\1'", cell)
