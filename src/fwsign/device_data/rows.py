# SPDX-License-Identifier: Apache-2.0
"""The CSV file of per-device data: a row for each board, checked as a whole before any is used.

The file is RFC 4180 in UTF-8, with commas. Its first line names the columns: those of the policy,
and `serial`, `mac` or both, which name the board. An empty cell is no value. Cells may be secrets:
no error, representation or log holds one; only serial numbers and MACs are shown.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, final

from fwsign.device_data.policy import MAC, MAX_COLUMN, SERIAL, Policy, Unfit, Value, bad
from fwsign.errors import Malformed, Unsuitable, check_limit
from fwsign.nearest import did_you_mean

MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes of a CSV file."""
MAX_ROWS: Final = 100_000
"""Rows of a CSV file: more boards than a line makes in a year."""
MAX_SERIAL: Final = 64
"""Characters of a serial number."""

_SERIAL: Final = re.compile(rf"[!-~]{{1,{MAX_SERIAL}}}")
_MAC: Final = re.compile(r"[0-9a-f]{12}(?:[0-9a-f]{4})?")
_LINE: Final = 4 * 1024 * 1024  # characters; each may be a comma, and so a cell in memory
_CELL: Final = 2 * 1024 * 1024  # characters; as hex, a raw place of the largest size


@final
class DataRow:
    """A row; its representation shows no value.

    Args:
        serial: the board's serial number; its MAC if the file has no other.
        mac: the identity's hex digits, if the row names a board by them.
        line: the line of the file on which it begins.
        cells: the values by column.
    """

    __slots__ = ("cells", "line", "mac", "serial")

    def __init__(self, serial: str, mac: str | None, line: int, cells: Mapping[str, bytes]) -> None:
        self.serial, self.mac, self.line, self.cells = serial, mac, line, cells

    def __repr__(self) -> str:
        """Name the row, and do not show it."""
        return f"<row {self.serial} of line {self.line}>"


class Rows(NamedTuple):
    """The rows of a file, in its order.

    Args:
        name: the file, for messages.
        by_serial: the rows by serial number.
        by_mac: the rows that name a board by its MAC.
    """

    name: str
    by_serial: Mapping[str, DataRow]
    by_mac: Mapping[str, DataRow]

    def get(self, serial: str) -> DataRow:
        """Return the row with a serial number.

        Raises:
            Unsuitable: `unsuitable.device-data`.
        """
        if serial in self.by_serial:
            return self.by_serial[serial]
        raise Unsuitable(
            "unsuitable.device-data",
            f"{self.name} has no row with the serial number {serial}",
            expected=f"one of {len(self.by_serial)} rows",
            found=serial,
            hint="is it mistyped, or in the file of another batch?",
        )


def read(data: bytes, policy: Policy, name: str) -> Rows:
    """Read all rows, and check every cell.

    Args:
        data: the file's content.
        policy: the values that rows may and must have.
        name: the file, for messages.

    Raises:
        Malformed: `malformed.device-data`, with row and column and without the cell;
            `malformed.size`.
    """
    check_limit(len(data), MAX_FILE, f"{name} of {len(data)} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise bad(f"{name}, line {line}: not UTF-8", expected="UTF-8") from None
    lines = _lines(text, name)
    first, header = next(lines, (0, []))
    if not header:
        raise bad(f"{name} is empty", expected="a line with the names of the columns")
    values = {one.column: one for one in policy.values}
    _check_header(header, values, f"{name}, line {first}")
    rows = [_row(name, line, header, cells, values) for line, cells in lines]
    if not rows:
        raise bad(f"{name} has no row", expected="a row for each board", found="none")
    check_limit(len(rows), MAX_ROWS, f"{name} with {len(rows)} rows")
    _refuse_repeated(name, rows, values)
    return Rows(
        name,
        {one.serial: one for one in rows},
        {one.mac: one for one in rows if one.mac is not None},
    )


def hex_of(identity: str) -> str:
    """Return the digits of a board's identity, such as "mac:a0b765c1d2e3", or of a written MAC."""
    digits = identity.removeprefix("mac:").removeprefix("chipid:")
    return digits.replace(":", "").replace("-", "").lower()


def _lines(text: str, name: str) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield each row that is not empty, and the line on which it begins."""
    before = csv.field_size_limit(_CELL)
    try:
        reader = csv.reader(_short_lines(text, name), strict=True)
        line = 1
        try:
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error:  # its text could hold a part of a cell
            message = f"{name}, line {line}: not a row of CSV"
            expected = 'commas between cells, and quotes in pairs: "one ""quoted"" cell"'
            raise bad(message, expected=expected, hint=f"expected are {expected}") from None
    finally:
        csv.field_size_limit(before)


def _short_lines(text: str, name: str) -> Iterator[str]:
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        check_limit(len(line), _LINE, f"line {number} of {name} with {len(line)} characters")
        yield line


def _check_header(header: Sequence[str], values: Mapping[str, Value], place: str) -> None:
    known = (SERIAL, MAC, *values)
    columns = f"the columns are {', '.join(known)}, with commas between them"
    if SERIAL not in header and MAC not in header:
        # Perhaps there is no header, and these are the cells of a row: they are not shown.
        message = f"{place}: no column says which board a row is for"
        raise bad(message, expected=f"{SERIAL} or {MAC}", hint=columns)
    for number, column in enumerate(header, 1):
        if column not in known:
            raise bad(
                f'{place}: "{column:.{MAX_COLUMN}}" is not a column that the signed policy allows',
                expected=", ".join(known),
                found=column,
                hint=did_you_mean(column, known) or columns,
            )
        if header.index(column) != number - 1:
            raise bad(f'{place}: the column "{column}" is there twice', expected="once")
    for value in values.values():
        if value.required and value.column not in header:
            raise bad(
                f'{place}: the column "{value.column}" is missing',
                expected=value.column,
                found=", ".join(header),
            )


def _row(
    name: str, line: int, header: Sequence[str], cells: Sequence[str], values: Mapping[str, Value]
) -> DataRow:
    place = f"{name}, line {line}"
    if len(cells) != len(header):
        raise bad(
            f"{place}: {len(cells)} cells, the first line has {len(header)}",
            expected=len(header),
            found=len(cells),
        )
    said = dict(zip(header, cells, strict=True))
    mac = _mac(said.get(MAC, ""), place)
    serial = said.get(SERIAL, mac or "")
    if not _SERIAL.fullmatch(serial):
        column = SERIAL if SERIAL in said else MAC
        expected = f"1 to {MAX_SERIAL} characters of ASCII without spaces"
        raise _wrong(place, column, expected, "an empty cell" if not serial else "other text")
    found: dict[str, bytes] = {}
    for column, value in values.items():
        text = said.get(column, "")
        if not text:
            if value.required:
                raise _wrong(place, column, "a value, for it is required", "an empty cell")
            continue
        try:
            found[column] = value.encode(text)
        except Unfit as error:
            raise _wrong(place, column, error.expected, error.found) from None
    return DataRow(serial, mac, line, found)


def _mac(text: str, place: str) -> str | None:
    if not text:
        return None
    digits = hex_of(text)
    if not _MAC.fullmatch(digits):
        raise _wrong(place, MAC, "12 or 16 hex digits, as a0:b7:65:c1:d2:e3", "other text")
    return digits


def _wrong(place: str, column: str, expected: str, found: str) -> Malformed:
    message = f'{place}, column "{column}": expected {expected}, found {found}'
    return bad(message, expected=expected, found=found)


def _refuse_repeated(name: str, rows: Sequence[DataRow], values: Mapping[str, Value]) -> None:
    unique = [one.column for one in values.values() if one.unique]
    seen: dict[tuple[str, object], int] = {}
    for row in rows:
        facts: list[tuple[str, object]] = [(SERIAL, row.serial)]
        facts += [(MAC, row.mac)] if row.mac else []
        facts += [(column, row.cells[column]) for column in unique if column in row.cells]
        for fact in dict.fromkeys(facts):
            first = seen.setdefault(fact, row.line)
            if first != row.line:
                raise _wrong(
                    f"{name}, line {row.line}",
                    fact[0],
                    "another value in each row",
                    f"that of line {first}",
                )
