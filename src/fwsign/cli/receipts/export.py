# SPDX-License-Identifier: Apache-2.0
"""Receipts for other programs: a CSV file with a row for each board, and a label for each."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fwsign.cli import ui
from fwsign.errors import Failed
from fwsign.files import io_error, read_bytes, write_atomic

if TYPE_CHECKING:
    from fwsign.receipts.chain import Receipt

COLUMNS: Final = (
    "time",
    "result",
    "identity",
    "serial",
    "label",
    "product",
    "version",
    "sequence",
    "code",
    "digest",
    "receipt",
)
"""The columns; `digest` is the release's manifest digest, `receipt` that of the receipt's line."""

_GOOD: Final = ("verified", "device-reported")
_LABEL_LIMIT: Final = 4096


def rows(
    receipts: "Iterable[Receipt]", since: datetime | None, until: datetime | None
) -> list[dict[str, str]]:
    """Return a row for each receipt about a board, in their order.

    Args:
        receipts: the receipts, already judged.
        since: the first time to take.
        until: the first time not to take.
    """
    return [
        _row(one)
        for one in receipts
        if one.content.get("kind") == "flash" and _within(one.content.get("clock"), since, until)
    ]


def _within(clock: object, since: datetime | None, until: datetime | None) -> bool:
    if since is None and until is None:
        return True
    try:
        time = datetime.fromisoformat(str(clock))
    except ValueError:
        return False
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (since is None or since <= time) and (until is None or time < until)


def _row(receipt: "Receipt") -> dict[str, str]:
    content = receipt.content
    board, release, data = (_part(content, key) for key in ("board", "release", "device_data"))
    product = "/".join(str(release[key]) for key in ("vendor", "product") if release.get(key))
    found = {
        "time": content.get("clock"),
        "result": content.get("result"),
        "identity": board.get("identity"),
        "serial": data.get("serial"),
        "label": content.get("label") or content.get("port"),
        "product": product,
        "version": release.get("version"),
        "sequence": release.get("sequence_number"),
        "code": content.get("code"),
        "digest": release.get("manifest_digest"),
        "receipt": receipt.digest,
    }
    return {key: "" if value is None else ui.clean(value) for key, value in found.items()}


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def labels(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the text of a label for each board that is good, by the name of its file.

    The last receipt of a board counts, so that a board that failed after all has no label.
    """
    last = {row["identity"] or row["serial"] or row["label"]: row for row in found}
    texts: dict[str, str] = {}
    for row in last.values():
        if row["result"] in _GOOD:
            texts[_file_name(row, texts)] = _label(row)
    return texts


def _label(row: Mapping[str, str]) -> str:
    kind, colon, digits = row["identity"].partition(":")
    identity = (kind, digits) if colon else ("identity", row["identity"])
    lines = [
        ("serial", row["serial"]),
        identity,
        ("product", row["product"]),
        ("version", row["version"]),
    ]
    return "".join(f"{name:8} {value}\n" for name, value in lines if value)


def _file_name(row: Mapping[str, str], taken: Mapping[str, str]) -> str:
    """Return a name that is no path and not taken yet, from the serial number or the identity."""
    wanted = row["serial"] or row["identity"] or row["label"] or "board"
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", wanted).strip("-")[:64] or "board"
    lower = {name.lower() for name in taken}
    number, name = 1, f"label-{stem}.txt"
    while name.lower() in lower:
        number += 1
        name = f"label-{stem}-{number}.txt"
    return name


def write_labels(directory: Path, texts: Mapping[str, str], *, force: bool) -> None:
    """Write each label that is not there already; refuse to replace another unless forced.

    Raises:
        Failed: `io.*`.
    """
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise io_error(error, directory, "write") from error
    new = {directory / name: text.encode() for name, text in texts.items()}
    new = {path: data for path, data in new.items() if not _is_there(path, data)}
    for path in new:
        if not force and path.exists():
            raise Failed("io.exists", f"{path} exists already", hint="--force replaces labels")
    for path, data in new.items():
        write_atomic(path, data, overwrite=force)


def _is_there(path: Path, data: bytes) -> bool:
    try:
        return read_bytes(path, _LABEL_LIMIT) == data
    except Failed:
        return False
