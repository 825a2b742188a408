# SPDX-License-Identifier: Apache-2.0
"""Names for the slots of a station: `--label PORT=NAME`, and the table [labels] of fwsign.toml."""

import os
from collections.abc import Collection, Mapping, Sequence

from fwsign.cli import ui
from fwsign.cli.config import LONGEST_LABEL, is_label


def typed(labels: Sequence[str], ports: Collection[str]) -> dict[str, str]:
    """Return the names that were typed, by their ports.

    Args:
        labels: as typed, `PORT=NAME`; a port may contain "=", a name cannot.
        ports: the named ports; empty for all that are here.
    """
    found: dict[str, str] = {}
    for text in labels:
        port, _, name = text.rpartition("=")
        if not port or not is_label(name):
            ui.usage(
                f"--label {text}", f"expected PORT=NAME, a name of 1 to {LONGEST_LABEL} letters"
            )
        if ports and not any(is_same(port, one) for one in ports):
            ui.usage(f"--label {text}: no board is at {port}", f"the ports are: {', '.join(ports)}")
        found[port] = name
    return found


def labels_of(ports: Sequence[str], labels: Mapping[str, str]) -> dict[str, str]:
    """Return the label of each port that has one; two ports cannot share one.

    Args:
        ports: the boards of this run.
        labels: names by ports; a port may be called by any of its paths.
    """
    found: dict[str, str] = {}
    for port in ports:
        name = labels.get(port) or next(
            (name for one, name in labels.items() if is_same(one, port)), None
        )
        if name is None:
            continue
        if (other := next((one for one in found if found[one] == name), None)) is not None:
            ui.usage(f'the label "{name}" is for {other} and for {port}', "give each its own")
        found[port] = name
    return found


def is_same(one: str, other: str) -> bool:
    """Tell whether two names are of the same port."""
    return one == other or (
        one.startswith("/") and os.path.realpath(one) == os.path.realpath(other)
    )
