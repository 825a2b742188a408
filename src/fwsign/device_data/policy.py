# SPDX-License-Identifier: Apache-2.0
"""The policy for per-device data: the places that a station may fill, and their values.

It is a component of the release, `['file', 'device-data.toml']`, and is signed like any other. It
names each place and each value; nothing else may be filled. A filled place is written as a whole.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from fwsign.errors import Failed, FwsignError, Malformed, check_limit
from fwsign.format.kinds import file_identifier, flash_identifier
from fwsign.images import esp_nvs
from fwsign.images.chips import is_esp32
from fwsign.images.esp_partitions import SECTOR
from fwsign.signing.release import DEVICE_DATA
from fwsign.toml import TomlTable

NAME: Final = DEVICE_DATA
IDENTIFIER: Final = file_identifier(NAME)
MAX_POLICY: Final = 64 * 1024
"""Bytes of a policy."""
MAX_LINE: Final = 1024
"""Bytes of a line: the time to read a key with dots grows with the square of its length."""
MAX_PLACES: Final = 16
MAX_VALUES: Final = 256
"""Values in all places together."""
MAX_COLUMN: Final = 64
"""Characters of a column's name."""
MAX_PLACE_SIZE: Final = 1024 * 1024
"""Bytes of a place: partitions for such data have a few sectors."""

SERIAL: Final = "serial"
MAC: Final = "mac"
"""The columns that name the board of a row."""
_VERSION: Final = 1


class Value(NamedTuple):
    """A value that a place may hold.

    Args:
        column: the column of the CSV file that it comes from.
        type: one of `esp_nvs.TYPES`; raw places take "string" and "blob".
        most: bytes at most; the size of a number.
        required: whether each row must have it.
        unique: whether no two rows may have the same.
        namespace: of NVS; empty in a raw place.
        key: of NVS; empty in a raw place.
    """

    column: str
    type: str
    most: int
    required: bool
    unique: bool
    namespace: str = ""
    key: str = ""

    def encode(self, text: str) -> bytes:
        """Return a cell's bytes.

        Raises:
            Unfit: it is no such value; the error does not hold the cell.
        """
        if self.type in esp_nvs.NUMBERS:
            return _number(self.type, text)
        if self.type == "blob":
            try:
                data = bytes.fromhex(text) if text.isascii() else b""
            except ValueError:
                data = b""
            if not data or len(text) != 2 * len(data):
                raise Unfit("pairs of hex digits", "other text") from None
        else:
            data = text.encode()
            if b"\0" in data:
                raise Unfit("a text without NUL", "a NUL")
        if len(data) > self.most:
            raise Unfit(f"at most {self.most} bytes", f"{len(data)} bytes")
        return data


class Unfit(Exception):
    """A cell that is not the value that the policy wants, in words that do not show it."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected, self.found = expected, found


class DataPlace(NamedTuple):
    """A place that a station may fill.

    Args:
        chip: the boards that have it.
        label: the partition with this label in the table that is in force; None for an offset.
        offset: in bytes from the start of the flash; None for a partition.
        size: in bytes; None for a partition.
        format: "nvs" or "raw".
        values: what it may hold; one for a raw place.
    """

    chip: str
    label: str | None
    offset: int | None
    size: int | None
    format: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """The place in words."""
        return f'partition "{self.label}"' if self.label else f"{self.size} bytes at {self.at}"

    @property
    def at(self) -> str:
        """The partition's label, or the offset."""
        return self.label or f"0x{self.offset or 0:x}"

    def content(self, cells: Mapping[str, bytes], size: int) -> bytes:
        """Return the content of the whole place.

        Args:
            cells: the values of the row by their columns; others are not used.
            size: of the place, in bytes.

        Raises:
            Failed: `state.limit`: it does not fit.
        """
        found = [(one, cells[one.column]) for one in self.values if one.column in cells]
        if self.format == "nvs":
            entries = [
                esp_nvs.NvsEntry(one.namespace, one.key, one.type, data) for one, data in found
            ]
            return esp_nvs.partition(entries, size)
        data = b"".join(data for _, data in found)
        if len(data) > size:
            expected, words = f"at most {size} bytes", f"{len(data)} bytes"
            message = f"the data does not fit: expected {expected}, found {words}"
            raise Failed("state.limit", message, expected=expected, found=words)
        return data.ljust(size, b"\xff")

    def check_size(self, size: int) -> None:
        """Check that the longest permitted values fit, so that each row does.

        Raises:
            Failed: `state.limit`.
        """
        self.content({one.column: b"\xff" * one.most for one in self.values}, size)


class Policy(NamedTuple):
    """A policy.

    Args:
        required: whether boards may not be flashed without data.
        places: the places, at least one.
    """

    required: bool
    places: tuple[DataPlace, ...]

    @property
    def values(self) -> tuple[Value, ...]:
        """The values of all places."""
        return tuple(value for place in self.places for value in place.values)


def parse(data: bytes) -> Policy:
    """Read a policy, strictly.

    Raises:
        Malformed: `malformed.device-data`, `malformed.size`.
    """
    check_limit(len(data), MAX_POLICY, f"{NAME} of {len(data)} bytes")
    for number, line in enumerate(data.split(b"\n"), 1):
        check_limit(len(line), MAX_LINE, f"line {number} of {NAME} with {len(line)} bytes")
    try:
        content = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        words = str(error)
        raise bad(f"{NAME}: {words[:1].lower()}{words[1:]}") from None
    try:
        return _policy(TomlTable(Path(NAME), "", content))
    except FwsignError as error:
        raise bad(
            error.message, expected=error.expected, found=error.found, hint=error.hint
        ) from None


def bad(
    message: str,
    *,
    expected: object = None,
    found: object = None,
    hint: str | None = None,
) -> Malformed:
    """Return the refusal of a policy or of a CSV file."""
    return Malformed("malformed.device-data", message, expected=expected, found=found, hint=hint)


def _policy(table: TomlTable) -> Policy:
    version = table.take("version", int)
    if version != _VERSION:
        raise table.wrong("version", f"{_VERSION}, which this fwsign knows", version)
    required = table.take("required", bool, False)
    places = tuple(_place(one) for one in table.tables("partition"))
    table.end()
    if not 1 <= len(places) <= MAX_PLACES:
        raise table.wrong("partition", f"a list of 1 to {MAX_PLACES} tables", len(places))
    policy = Policy(required, places)
    if len(policy.values) > MAX_VALUES:
        raise table.wrong("partition", f"a list with {MAX_VALUES} values at most", "more")
    _refuse_twice(table, "partition", (f"{one.chip} {one.at}" for one in places), "a place")
    for chip in {one.chip for one in places}:
        columns = (value.column for one in places if one.chip == chip for value in one.values)
        _refuse_twice(table, "partition", columns, "a column")
    kinds: dict[str, tuple[object, ...]] = {}
    for value in policy.values:  # for each chip, a cell is the same value
        if kinds.setdefault(value.column, value[:5]) != value[:5]:
            expected = f'a list that has one type, max, required and unique for "{value.column}"'
            raise table.wrong("partition", expected, "two")
    return policy


def _refuse_twice(table: TomlTable, key: str, names: Iterator[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise table.wrong(key, f"a list that has {what} once, {name}", f"{name} twice")
        seen.add(name)


def _place(table: TomlTable) -> DataPlace:
    chip, form = table.take("chip", str), table.take("format", str)
    flash_identifier(chip, 0)
    if form not in ("nvs", "raw"):
        raise table.wrong("format", '"nvs" or "raw"', form)
    if form == "nvs" and not is_esp32(chip):
        raise table.wrong("chip", "an ESP32, which alone has NVS", chip)
    label, offset, size = table.maybe("label"), None, None
    if label is None:
        if "offset" not in table.keys():  # noqa: SIM118 - no dict
            raise table.wrong("label", "the label of a partition, or offset and size", None)
        offset = table.number("offset", 0, 2**32 - SECTOR)
        size = table.number("size", 0, MAX_PLACE_SIZE)
        for key, number in (("offset", offset), ("size", size)):
            if number % SECTOR:
                raise table.wrong(key, f"a multiple of {SECTOR}", number)
    values = tuple(_value(one, form) for one in table.tables("value"))
    table.end()
    if not values or (form == "raw" and len(values) != 1):
        expected = "a list of one table" if form == "raw" else "a list of tables, one at least"
        raise table.wrong("value", expected, len(values))
    _refuse_twice(table, "value", (f"{one.namespace}/{one.key}" for one in values), "a key")
    place = DataPlace(chip, label, offset, size, form, values)
    if size is not None:
        place.check_size(size)
    return place


def _value(table: TomlTable, form: str) -> Value:
    kind = table.take("type", str)
    known = esp_nvs.TYPES if form == "nvs" else ("string", "blob")
    if kind not in known:
        raise table.wrong("type", f"one of {', '.join(known)}", kind)
    if kind in esp_nvs.NUMBERS:
        most = esp_nvs.NUMBERS[kind][1]
    elif form == "raw":
        most = table.number("max", 0, MAX_PLACE_SIZE)
    else:
        limit = esp_nvs.MAX_STRING if kind == "string" else esp_nvs.MAX_BLOB
        most = table.number("max", 0, limit)
    namespace = _name(table, "namespace") if form == "nvs" else ""
    key = _name(table, "key") if form == "nvs" else ""
    column = table.maybe("column") or key
    if not 1 <= len(column) <= MAX_COLUMN or not column.isprintable() or column != column.strip():
        raise table.wrong("column", f"a name of 1 to {MAX_COLUMN} characters", column or None)
    value = Value(
        column,
        kind,
        most,
        table.take("required", bool, True),
        table.take("unique", bool, False),
        namespace,
        key,
    )
    table.end()
    return value


def _name(table: TomlTable, key: str) -> str:
    """Return a namespace or key of NVS."""
    name = table.take(key, str)
    if len(name) > esp_nvs.MAX_NAME or not name.isascii() or " " in name:
        expected = f"1 to {esp_nvs.MAX_NAME} characters of ASCII without spaces"
        raise table.wrong(key, expected, name)
    return name


def _number(kind: str, text: str) -> bytes:
    """Return a number's bytes; its digits are decimal, or hex after 0x."""
    _, size, signed = esp_nvs.NUMBERS[kind]
    low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, 256**size - 1)
    expected = f"a whole number from {low} to {high}"
    digits = text.removeprefix("-")
    hexadecimal = digits[:2] in ("0x", "0X")
    try:
        if len(text) > MAX_COLUMN or not digits.isalnum() or not digits.isascii():
            raise ValueError
        number = int(digits, 16 if hexadecimal else 10)
    except ValueError:
        raise Unfit(expected, "other text") from None
    number = -number if text.startswith("-") else number
    if not low <= number <= high:
        raise Unfit(expected, "a number outside of it")
    return number.to_bytes(size, "little", signed=signed)
