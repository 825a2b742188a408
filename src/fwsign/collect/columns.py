# SPDX-License-Identifier: Apache-2.0
"""The columns of a receipt: what questions ask for, read from its line.

A line is signed, and a stranger's texts are in it all the same: `fwsign.collect.summary` bounds
each value, and what has another type is left out.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fwsign.collect.summary import clock, column, digest, release_columns


class ReceiptColumns(NamedTuple):
    """The columns of `receipts` that are read from a line, under the names of the table."""

    clock: int | None
    kind: str
    result: str
    code: str | None
    vendor: object
    product: object
    version: object
    sequence: object
    manifest: object
    board: str | None


def columns_of(content: Mapping[str, Any]) -> ReceiptColumns:
    """Return the columns of a receipt's content."""
    release, board = release_columns(content), content.get("board")
    # What was simulated is in no history of a real board, whatever identity it has.
    real = board if isinstance(board, dict) and not board.get("simulated") else {}
    return ReceiptColumns(
        clock(content),
        column(content.get("kind")) or "",
        column(content.get("result")) or "",
        column(content.get("code")),
        release["vendor"],
        release["product"],
        release["version"],
        release["sequence"],
        release["manifest"] or digest(content.get("manifest")),
        column(real.get("identity")),
    )


def device_columns(content: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the vendor and product of the device that a receipt names."""
    device = content.get("device")
    if not isinstance(device, dict):
        return None, None
    return column(device.get("vendor")), column(device.get("product"))
