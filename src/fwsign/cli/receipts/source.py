# SPDX-License-Identifier: Apache-2.0
"""Where receipts are read from: a file, a memory, or the memory of a gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from fwsign.cli import ui

FILE: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        readable=False,
        metavar="[FILE]",
        help="Receipts, one on each line. Default: those in your memory of boards.",
    ),
]
STATE: TypeAlias = Annotated[
    Path | None,
    typer.Option("--state", readable=False, metavar="FILE", help="Those in another memory."),
]
CONFIG: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config", readable=False, metavar="FILE", help="Those of the gateway of a device.toml."
    ),
]


@contextmanager
def opened(file: Path | None, state: Path | None, config: Path | None) -> Iterator[Iterator[str]]:
    """Open the receipts that a command line names, and yield their lines."""
    from fwsign.memory.file import default_path
    from fwsign.memory.state import State
    from fwsign.receipts.file import read_lines

    if sum(one is not None for one in (file, state, config)) > 1:
        ui.usage("more than one of a file, --state and --config", "receipts are in one of them")
    if file:
        yield read_lines(file)
        return
    if config:
        from fwsign.gateway.config.device import load  # only on a gateway

        state = load(config).state
    with State.open(state or default_path()) as memory:
        yield memory.receipt_lines()
