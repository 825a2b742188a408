# SPDX-License-Identifier: Apache-2.0
"""`fwsign receipts prune`: remove old receipts from a memory; a record takes their place."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from fwsign.cli import inputs, ui
from fwsign.cli.command import examples
from fwsign.cli.options import JSON, KEY_PASS
from fwsign.cli.receipts.source import CONFIG, STATE

if TYPE_CHECKING:
    from fwsign.gateway.config.device import Device
    from fwsign.memory.state import State

EXAMPLES: Final = examples(
    "fwsign receipts prune --config /etc/fwsign/device.toml --keep 1000 --lines old.jsonl",
    "fwsign receipts prune --before 365d",
)

_KEEP: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Keep the newest N receipts.")
]
_BEFORE: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Keep those from then on: RFC 3339 with a zone, or 365d."),
]
_LINES: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--lines",
        readable=False,
        metavar="OUT",
        help="Write all receipts to a new file first. Without it, the number has to be typed.",
    ),
]


_UNREPORTED: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--unreported",
        help="Remove those too that the collector of device.toml has not acknowledged.",
    ),
]


def prune(
    *,
    state: STATE = None,
    config: CONFIG = None,
    keep: _KEEP = None,
    before: _BEFORE = None,
    lines: _LINES = None,
    unreported: _UNREPORTED = False,
    pass_: KEY_PASS = None,
    as_json: JSON = False,
) -> None:
    """Remove the oldest receipts from a memory, which has room for new ones then.

    The first line says then how many are gone, with the digest of the last one: so the rest
    verifies as before, and a head from before the pruned ones proves nothing any more. The newest
    receipt stays. --lines keeps a copy, which fwsign receipts verify reads. With [report] in
    device.toml, receipts stay that its collector has not acknowledged.
    """
    from fwsign.memory.file import default_path
    from fwsign.memory.state import State

    if (keep is None) == (before is None):
        ui.usage("exactly one of --keep and --before is needed", "--keep 1000 keeps the newest")
    if state and config:
        ui.usage("more than one of --state and --config", "receipts are in one of them")
    end = inputs.past_time(before, "--before")
    with ExitStack() as stack:
        device = _device(config)
        path = device.state if device else state or default_path()
        memory = stack.enter_context(State.open(path))
        drop = _count(memory, keep, end)
        if device is not None and not unreported:
            drop = _reported(memory, device, drop)
        if drop == 1 and _begins_with_record(memory):
            drop = 0  # nothing but the record of what is gone
        if drop:
            _agree(memory, drop, lines)
        removed = _prune(memory, device, drop, pass_) if drop else 0
        left, rest = memory.receipt_count(), _begins_with_record(memory)
    if as_json:
        ui.print_json({"verdict": "pruned", "removed": removed, "receipts": left})
    else:
        record = ", with the record of those that are gone" if rest else ""
        ui.out(f"pruned  {removed} receipts, {left} left{record}")


def _device(config: Path | None) -> "Device | None":
    if config is None:
        return None
    from fwsign.cli.device.command import load_device  # only on a gateway

    return load_device(config)


def _count(memory: "State", keep: int | None, end: datetime | None) -> int:
    """Return the number of lines to remove; the newest stays."""
    from fwsign.receipts.chain import judge_lines

    count = memory.receipt_count()
    if keep is not None:
        return max(0, count - keep)
    assert end is not None  # noqa: S101 - one of both is given
    old = 0
    for one in judge_lines(memory.receipt_lines()):
        if old == count - 1 or not _is_before(one.content, end):
            break
        old += 1
    return old


def _reported(memory: "State", device: "Device", drop: int) -> int:
    """Return how many of the lines to remove are acknowledged, and say how many are not."""
    if device.report.to is None:
        return drop
    from fwsign.gateway.report.spool import acknowledged  # only where receipts are reported
    from fwsign.mqtt.address import is_broker

    left = min(drop, acknowledged(memory, device.report.to))
    if left < drop:
        why = f"{device.report.to} has not acknowledged them"
        if is_broker(device.report.to):
            why = "what a broker says does not prove that a collector has them; --unreported"
            why += " removes them"
        ui.note(f"{drop - left} receipts stay: {why}")
    return left


def _begins_with_record(memory: "State") -> bool:
    from fwsign.receipts.chain import pruned_before

    return any(pruned_before(line) is not None for line in islice(memory.receipt_lines(), 1))


def _is_before(content: "Any", end: datetime) -> bool:
    try:
        return datetime.fromisoformat(str(content.get("clock"))) < end
    except (ValueError, TypeError):  # no clock, or one without a zone
        return True


def _agree(memory: "State", drop: int, lines: Path | None) -> None:
    """Keep a copy, or let the user type the number."""
    if lines is not None:
        write_lines(memory.receipt_lines(), lines)
        return
    if not ui.is_terminal(sys.stdin):
        ui.usage(
            "receipts are removed for good, and there is no terminal to agree at",
            "keep a copy with --lines OUT",
        )
    ui.note(f"this removes {drop} receipts for good; --lines OUT keeps a copy")
    typed: str = typer.prompt("Type the number to go on", err=True)
    if typed != str(drop):
        ui.usage(f'"{typed}" is not {drop}', "nothing was changed")


def write_lines(lines: Iterator[str], path: Path) -> int:
    """Write lines to a new file, whole or not at all, once they are a chain; return how many.

    Raises:
        FwsignError: as `judge_lines`; `io.*`.
    """
    from fwsign.files import atomic_writer
    from fwsign.receipts.chain import judge_lines

    with atomic_writer(path, mode=0o600) as copy:

        def copied() -> Iterator[str]:
            for line in lines:
                copy.write(f"{line}\n".encode(errors="surrogateescape"))
                yield line

        return sum(1 for _ in judge_lines(copied()))


def _prune(memory: "State", device: "Device | None", drop: int, source: str | None) -> int:
    from fwsign import __version__

    now = inputs.now()
    if device is None:
        return memory.prune_receipts(drop, {"clock": now.isoformat(), "fwsign": __version__})
    from fwsign.cli.device.command import device_signer
    from fwsign.gateway.run.log import Log

    signer = device_signer(device.device_key, source)
    return Log(memory, device, now, signer).prune(drop)
