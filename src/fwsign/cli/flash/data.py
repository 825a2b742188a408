# SPDX-License-Identifier: Apache-2.0
"""The per-device data of a run of `fwsign flash`: the CSV file, and whose row is whose."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fwsign.cli import inputs, ui
from fwsign.cli.flash.labels import labels_of
from fwsign.signing.release import DEVICE_DATA

if TYPE_CHECKING:
    from fwsign.cli.flash.options import RowOptions
    from fwsign.device_data.rows import Rows
    from fwsign.flash.device_data import Filler
    from fwsign.flash.verify_per_board import Judging


def check(typed: "RowOptions", ports: Sequence[str], left_out: Sequence[str]) -> None:
    """Refuse options that do not belong together, before anything is read.

    Args:
        typed: the options.
        ports: the typed ports; none for all boards that are here.
        left_out: names of components that are left out.
    """
    if typed.device_data is None:
        options = (("--serial", typed.serial), ("--scan", typed.scan), ("--next", typed.next_row))
        for option, given in options:
            if given:
                ui.usage(f"{option} without --device-data", "--device-data FILE.csv has the rows")
        return
    bare = next((one for one in typed.serial or () if "=" not in one), None)
    if bare is not None and len(ports) != 1:
        number = f"{len(ports)} boards" if ports else "--all"
        ui.usage(f"--serial {bare} with {number}", "write --serial PORT=SERIAL for each")
    if typed.scan and typed.device_data == inputs.STREAM:
        ui.usage("--scan and --device-data - both read standard input")
    if DEVICE_DATA in left_out:
        ui.usage(f"--device-data and --leave-out {DEVICE_DATA} exclude each other")


def by_port(
    serials: Sequence[str], ports: Sequence[str], labels: Mapping[str, str]
) -> dict[str, str]:
    """Return the typed serial number of each port that has one.

    Args:
        serials: the values of --serial.
        ports: the boards of this run.
        labels: the names of slots, by port.
    """
    found: dict[str, str] = {}
    slots = {port: port for port in ports} | {name: port for port, name in labels.items()}
    for text in serials:
        named = [slot for slot in slots if text.startswith(f"{slot}=")]
        if not named and len(ports) == 1 and "=" not in text:
            named, text = list(ports), f"{ports[0]}={text}"  # noqa: PLW2901 - the full form
        if not named:
            known = ", ".join(slots)
            ui.usage(f"--serial {text} names no board of this run", f"write PORT=SERIAL: {known}")
        slot = max(named, key=len)
        port, serial = slots[slot], text.removeprefix(f"{slot}=")
        if port in found:
            ui.usage(f"two serial numbers for {port}: {found[port]} and {serial}")
        if serial in found.values():
            ui.usage(f"the serial number {serial} was typed for two boards", "each board has one")
        found[port] = serial
    return found


def _scan(
    ports: Sequence[str], serials: dict[str, str], rows: "Rows", labels: Mapping[str, str]
) -> None:
    """Ask for the serial number of each port without one, until it is that of a free row."""
    for port in ports:
        while port not in serials:
            ui.note(f"serial number of the board at {labels.get(port, port)}?")
            line = sys.stdin.readline() if sys.stdin is not None else ""
            if not line:
                ui.usage(f"no serial number for {port}", "scan one for each board, and Enter")
            serial = line.strip()
            if serial not in rows.by_serial:
                ui.note(f"{rows.name} has no row with the serial number {serial}")
            elif serial in serials.values():
                ui.note(f"the serial number {serial} is that of another board of this run")
            else:
                serials[port] = serial


def fillers(
    typed: "RowOptions",
    named: Sequence[str],
    labels: Mapping[str, str],
    judging: "Judging",
    state: Path,
    *,
    dry_run: bool,
) -> "Callable[[Sequence[str]], dict[str, Filler]]":
    """Read and check the CSV file; return a function from ports to the data for each.

    Args:
        typed: the options.
        named: the typed ports; none for all boards that are here.
        labels: the names of slots, by any path of their ports.
        judging: the verified release, with its policy.
        state: the memory that records which board has which row.
        dry_run: allot no row.

    Raises:
        Malformed: `malformed.device-data`: the file breaks the policy.
        Unsuitable: `unsuitable.device-data`: there is no policy, or it requires data.
        Failed: `io.*`.
    """
    from fwsign.flash.device_data import refuse_missing

    refuse_missing(judging.policy, given=typed.device_data is not None)
    if typed.device_data is None or judging.policy is None:
        return lambda _: {}
    from fwsign.device_data.rows import MAX_FILE, read
    from fwsign.flash.device_data import Filler

    manifest = judging.release.manifest
    rows = read(inputs.read(typed.device_data, MAX_FILE), judging.policy, str(typed.device_data))
    filler = Filler(
        rows,
        judging.policy,
        manifest.vendor_id,
        manifest.class_id,
        state,
        remember=not dry_run,
        take_next=typed.next_row,
    )

    def of(ports: Sequence[str]) -> dict[str, Filler]:
        # Boards that come one after the other are asked for by their port alone.
        slots = labels_of(named or ports, labels)
        every = by_port(typed.serial or (), named or ports, slots)
        serials = {port: every[port] for port in ports if port in every}
        for serial in serials.values():
            rows.get(serial)  # a mistyped one is refused before any board is asked
        if typed.scan:
            _scan(ports, serials, rows, slots)
        return {port: filler._replace(typed=serials.get(port)) for port in ports}

    return of
