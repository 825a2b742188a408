# SPDX-License-Identifier: Apache-2.0
"""Per-device data for boards: each board gets one row of a CSV file, and no two get the same.

A row is chosen before the plan is made, and allotted in the memory after every refusal and before
the first erase. So a crash never frees a row that may be on a board, and a board that comes again
gets its own row again.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from fwsign.device_data.places import locate
from fwsign.device_data.policy import NAME, DataPlace, Policy
from fwsign.device_data.rows import DataRow, Rows, hex_of
from fwsign.errors import Unsuitable
from fwsign.flash.boards.board import BoardInfo, Run
from fwsign.flash.boards.release import Payload
from fwsign.flash.esp.kept_data import Kept, cut, touches
from fwsign.flash.esp.layout import Piece
from fwsign.flash.esp.plan import EspPlan
from fwsign.format.algorithms import SHA256
from fwsign.format.component import Component, Digest
from fwsign.format.kinds import flash_identifier
from fwsign.format.payload import digest
from fwsign.images import Image
from fwsign.images.chips import is_esp32
from fwsign.images.esp_data import TABLE_OFFSET
from fwsign.memory.rows import Batch
from fwsign.memory.state import State


class DataComponent(Component):
    """The data for one board, like a component of the release; its uri is its place in words."""

    @property
    def name(self) -> str:
        """The data's name in results and receipts."""
        return f"device data in {self.uri}"


class Filled(NamedTuple):
    """The row of one board, and the places for it.

    Args:
        row: the row.
        places: the places of the board's chip.
    """

    row: DataRow
    places: tuple[DataPlace, ...]

    @property
    def facts(self) -> dict[str, object]:
        """The receipt's facts: the serial number, the places and their keys, never a value."""
        places = [
            {
                "place": place.name,
                "keys": [
                    f"{one.namespace}/{one.key}" if one.key else one.column
                    for one in place.values
                    if one.column in self.row.cells
                ],
            }
            for place in self.places
        ]
        return {"serial": self.row.serial, "places": places}


class Filler(NamedTuple):
    """Chooses a row for a board, among the rows for all boards of a run.

    Args:
        rows: the checked CSV file.
        policy: the release's policy.
        vendor: the vendor's identifier in the manifest.
        klass: the product's.
        state: the memory that records who has which row; None if nothing is remembered.
        remember: whether rows are allotted; not in a dry run.
        take_next: whether a board without a row of its own takes the first free one.
        typed: the serial number that the user typed for this board; None if none.
    """

    rows: Rows
    policy: Policy
    vendor: bytes
    klass: bytes
    state: Path | None
    remember: bool
    take_next: bool
    typed: str | None = None

    def choose(self, info: BoardInfo) -> Filled:
        """Return the row for a board; `allot` may find that another board was faster.

        Args:
            info: the board's facts.

        Raises:
            Unsuitable: `unsuitable.device-data`.
            Failed: `state.*`, `io.*`.
        """
        places = tuple(one for one in self.policy.places if one.chip == info.chip)
        if not places:
            chips = ", ".join(sorted({one.chip for one in self.policy.places}))
            raise _unfit(
                f"the policy for device data is for {chips}, the board is "
                + (info.chip or "one that does not tell its chip"),
                chips,
                info.chip or info.kind,
            )
        if info.identity is None:
            raise _unfit(
                "the board has no identity, by which it would get its own row again",
                "a board with a MAC or another identity",
                info.kind,
            )
        batch = Batch(self.vendor, self.klass, info.simulated)
        with self._memory() as memory:
            own = memory.serial_of(batch, info.identity) if memory else None
            row = self._own(info.identity, own)
            if row is None:  # the next one is free, unless another board is faster: see `allot`
                following = self._next(batch, memory)
                if following is None:
                    raise self._none_left(info.identity)
                return Filled(following, places)
            holder = memory.board_of(batch, row.serial) if memory else None
        if holder not in (None, info.identity):
            raise _unfit(
                f"the row with the serial number {row.serial} is that of {holder}, "
                f"this board is {info.identity}",
                "a row that no board has",
                f"that of {holder}",
                "a row stays with its board: give this one another",
            )
        return Filled(row, places)

    def allot(self, info: BoardInfo, filled: Filled | None) -> bool:
        """Record that a board has a row; return False if another board was faster.

        Raises:
            Failed: `state.*`, `io.*`.
        """
        if not self.remember or filled is None or self.state is None or info.identity is None:
            return True
        batch = Batch(self.vendor, self.klass, info.simulated)
        with State.open(self.state, create=True) as memory:
            return memory.allot(batch, info.identity, filled.row.serial)

    def _memory(self) -> AbstractContextManager[State | None]:
        if self.state is None or not (self.remember or self.state.exists()):
            return nullcontext()
        return State.open(self.state, create=self.remember)

    def _own(self, identity: str, own: str | None) -> DataRow | None:
        """Return the row that the memory, the user or the file names for a board, if one does."""
        digits = hex_of(identity)
        named = [
            (own, "it has the row {} since it was first filled"),
            (self.typed, "the row {} was typed for it"),
            (
                self.rows.by_mac[digits].serial if digits in self.rows.by_mac else None,
                f"{self.rows.name} has the row {{}} for it",
            ),
        ]
        said = [(serial, words.format(serial)) for serial, words in named if serial is not None]
        if not said:
            return None
        (serial, first), *others = said
        for other, words in others:
            if other != serial:
                raise _unfit(
                    f"two rows for the board {identity}: {first}, {words}",
                    serial,
                    other,
                    "a row stays with its board" if own else None,
                )
        row = self.rows.get(serial)
        if row.mac not in (None, digits):
            raise _unfit(
                f"the row with the serial number {serial} is for the MAC {row.mac}, "
                f"this board is {identity}",
                row.mac,
                digits,
            )
        return row

    def _next(self, batch: Batch, memory: State | None) -> DataRow | None:
        """Return the first free row that names no board, if such are taken."""
        if not self.take_next:
            return None
        serials = [one.serial for one in self.rows.by_serial.values() if one.mac is None]
        first = memory.first_free(batch, serials) if memory else next(iter(serials), None)
        return self.rows.by_serial[first] if first is not None else None

    def _none_left(self, identity: str) -> Unsuitable:
        count = len(self.rows.by_serial)
        if self.take_next:
            found, hint = f"none of {count} is free", "more boards need a file with more rows"
        else:
            found = f"none of {count} names it"
            hint = "name it with --serial PORT=SERIAL, --scan, or in a column mac; or take --next"
        message = f"{self.rows.name} has no row for the board {identity}: {found}"
        return _unfit(message, "a row for this board", found, hint)


def lay_over(plan: EspPlan, filled: Filled) -> EspPlan:
    """Add the data for one board to what is written.

    Where a merged image or kept data lies in a place for data, the data is there instead.

    Args:
        plan: what the release writes.
        filled: the data.

    Raises:
        Unsuitable: `unsuitable.device-data`.
    """
    data = [_piece(place, filled.row, plan) for place in filled.places]
    under = [Kept("", run.offset, len(run.data)) for _, run in data]
    pieces: list[Piece] = []
    for payload, run in plan.pieces:
        merged = payload.image.role == "merged"
        pieces += [(payload, one) for one in cut(run, under if merged else ())]
    kept = [one for one in plan.kept if not any(touches(one, run) for _, run in data)]
    return plan._replace(pieces=[*pieces, *data], kept=kept)


def refuse_missing(policy: Policy | None, *, given: bool) -> None:
    """Refuse to flash without data where the policy requires it, and with data without a policy.

    Args:
        policy: the release's policy; None if it has none, or if that was left out by name.
        given: whether there is device data.

    Raises:
        Unsuitable: `unsuitable.device-data`.
    """
    if policy is None and given:
        raise _unfit(
            "the release does not say which device data may be written",
            f"a component {NAME}",
            "none",
            "sign it with a policy: fwsign sign FILE --device-data TOML",
        )
    if policy is not None and policy.required and not given:
        raise _unfit(
            "the release requires data for each board, and none was given",
            "device data",
            "none",
            f"--device-data FILE.csv gives it; --leave-out {NAME} flashes without, and is recorded",
        )


def _piece(place: DataPlace, row: DataRow, plan: EspPlan) -> Piece:
    """Return the content of a place, like a payload of the release."""
    table = plan.table
    rows, at = (table.partitions, table.at) if table else (None, TABLE_OFFSET)
    if rows is None and is_esp32(place.chip):
        raise _unfit(
            f"{place.name} is for device data, and the board's partition table is not known",
            "a partition table, of the release or of a board that can be read",
            "none",
        )
    found = locate(place, rows, at)
    for payload, run in plan.pieces:
        if payload.image.role != "merged" and run.offset < found.end and found.offset < run.end:
            raise _unfit(
                f"{place.name} is for device data, and {payload.component.name} goes there",
                "a place of its own",
                f"0x{run.offset:x} to 0x{run.end:x}",
            )
    data = place.content(row.cells, found.size)
    identifier = flash_identifier(place.chip, found.offset)
    image = Digest(SHA256, digest(SHA256, data))
    component = DataComponent(identifier, image, len(data), place.name)
    return Payload(component, data, Image("unknown")), Run(found.offset, data)


def _unfit(message: str, expected: object, found: object, hint: str | None = None) -> Unsuitable:
    return Unsuitable("unsuitable.device-data", message, expected=expected, found=found, hint=hint)
