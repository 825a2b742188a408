# SPDX-License-Identifier: Apache-2.0
"""Judge an ESP's flash as a release will leave it, before anything is erased.

The flash as it will be is judged, not the release alone: the partition table in force, the images
at the places that are executed, and the one that starts.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from fwsign.errors import Malformed, Unsuitable
from fwsign.flash.boards.board import SECURE_BOOT, SECURE_BOOT_V1, BoardInfo, Read, Run
from fwsign.flash.boards.release import Payload
from fwsign.flash.boards.waivers import ERASE_DATA, RAW, UNBOOTABLE
from fwsign.flash.esp import executed, kept_data, layout, start
from fwsign.flash.esp import table as esp_table
from fwsign.flash.esp.executed import Executed, ExecutedPlace
from fwsign.flash.esp.future import Future
from fwsign.flash.esp.kept_data import Kept
from fwsign.flash.esp.layout import RAW_HINT, Piece
from fwsign.flash.esp.table import PartitionTable
from fwsign.images import esp8266
from fwsign.images.esp_chips import ESP8266

_FLASH_END: Final = 1 << 32


class EspPlan(NamedTuple):
    """What to write, and what is known of the start.

    Args:
        pieces: the payloads at their places; a merged image in several pieces.
        table: the partition table in force; None if unknown.
        selection: the run that makes a written application start.
        kept: the board's own data that is left as it is.
        unbootable: why the board will not, or may not, start what is written; None if it will.
        controls: what leaves open whether it will.
        notes: other remarks for the result.
    """

    pieces: Sequence[Piece]
    table: PartitionTable | None = None
    selection: Run | None = None
    kept: Sequence[Kept] = ()
    unbootable: str | None = None
    controls: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Case(NamedTuple):
    """A board, and the tables that there are; see `judge`."""

    info: BoardInfo
    chip: str
    read: Read
    waived: Collection[str]
    own: PartitionTable | None
    before: PartitionTable | None

    @property
    def table(self) -> PartitionTable | None:
        """The table in force after the run."""
        return self.own or self.before


def judge(
    payloads: Sequence[Payload], info: BoardInfo, read: Read, waived: Collection[str]
) -> EspPlan:
    """Judge a release for a board, and say what to write.

    Args:
        payloads: the signed payloads for this chip.
        info: the board's facts.
        read: reads its flash.
        waived: names of waivers, as typed.

    Raises:
        Unsuitable: `unsuitable.region`, `unsuitable.partition`, `unsuitable.chip`,
            `unsuitable.revision`, `unsuitable.flash-size`, `unsuitable.flash-mode`,
            `unsuitable.locked`, `unsuitable.bootable`.
        Malformed: `malformed.image`: a partition table in the release is damaged.
    """
    whole = [(one, Run(one.offset, one.data)) for one in payloads]
    if payloads[0].chip == ESP8266:
        return _first(whole, info, read, waived)
    own = esp_table.of_release(payloads)
    before = esp_table.of_board(read, own)
    case = _Case(info, payloads[0].chip, read, waived, own, before)
    if case.table is not None:
        esp_table.check(case.table, info.flash_size)
        whole = [(layout.told(one, case.table), run) for one, run in whole]
    return _started(_without_data(whole, case), case)


def _first(whole: Sequence[Piece], info: BoardInfo, read: Read, waived: Collection[str]) -> EspPlan:
    """Judge a release for an ESP8266, which has no partition table and starts the image at 0."""
    plan = EspPlan(whole)
    brought = next((one for one, run in whole if run.offset == 0), None)
    if brought is not None:
        unknown = brought.image.kind == "unknown"
        starts = brought.image.chip == ESP8266 and brought.data[0] == esp8266.MAGIC
        if not starts and not (unknown and RAW in waived):
            found = "no image that it starts"
            raise brought.misplaced("an image at 0x0", found, RAW_HINT if unknown else None)
        return plan if starts else plan._replace(unbootable="what begins the flash is no image")
    plan = plan._replace(controls=("nothing was written at 0x0",))
    end = info.flash_size or _FLASH_END
    try:
        Future([run for _, run in whole], read).first(end)
    except Malformed as error:
        if not any(one.image.chip == ESP8266 for one, _ in whole) and not _starts(read, end):
            return plan  # data alone on a board that starts nothing
        reason = f"the chip starts the image at 0x0, and there is none: {error.message}"
        return _unbootable(plan._replace(controls=()), reason, waived)
    return plan


def _starts(read: Read, end: int) -> bool:
    """Tell whether an ESP8266 starts what it has."""
    try:
        return Future((), read).first(end) is not None
    except Malformed:
        return False


def _without_data(whole: Sequence[Piece], case: _Case) -> EspPlan:
    """Cut a merged image into what is written and what is the board's own data."""
    pieces: list[Piece] = []
    kept: list[Kept] = []
    lost: list[str] = []
    for payload, run in whole:
        if payload.image.role != "merged" or case.own is None or case.own.payload is not payload:
            pieces.append((payload, run))
            continue
        if ERASE_DATA not in case.waived:
            # Of a board that cannot be read, all data may be its own.
            there = case.before if case.info.readable else case.own
            if there is None and kept_data.was_cut_short(run, case.own, case.read):
                there = case.own
            kept = kept_data.kept_of(run, case.own, there, case.read)
            lost = kept_data.lost_of(run, case.own, case.before)
        others = [other for one, other in whole if one is not payload]
        apart = kept_data.apart_of(run, others, case.own)
        pieces += [(payload, piece) for piece in kept_data.cut(run, [*kept, *apart], case.own)]
        kept = [one for one in kept if not any(kept_data.touches(one, other) for other in others)]
    notes = (f"replaced, for the partition table changes: {', '.join(lost)}",) if lost else ()
    return EspPlan(pieces, case.table, kept=kept, notes=notes)


def _started(plan: EspPlan, case: _Case) -> EspPlan:
    """Check the images, and tell whether they will start."""
    info, table = case.info, case.table
    locked = any(lock in info.locks for lock in (SECURE_BOOT, SECURE_BOOT_V1))
    future = Future([run for _, run in plan.pieces], case.read, signed=locked)
    boot = executed.boot_place(case.chip, table, info.flash_size or _FLASH_END)
    places = [boot, *executed.app_places(table, plan.pieces)]
    layout.check_places(plan.pieces, table, case.waived)
    raw = RAW in case.waived
    found = executed.brought(plan.pieces, future, places, raw=raw, locked=locked)
    layout.check_data(plan.pieces, table, case.chip, case.waived)
    executed.check_signed(found, plan.pieces, info)
    fresh = next((one for one in found if one.place == boot), None)
    loader = fresh or start.boot_loader(future, boot)
    there = [loader] if fresh is None and isinstance(loader, Executed) else []
    executed.check_needs([*found, *there], table, case.chip, info, case.waived)
    if not any(one.image.role for one, _ in plan.pieces) and not _over_executed(plan, places):
        if any(one.image.kind == "mcuboot" for one, _ in plan.pieces):
            return plan._replace(controls=("what MCUboot starts is not known here",))
        return plan  # data alone changes nothing about the start
    waived = case.waived
    if raw and _over_executed(plan, places, "unknown"):
        waived = (*waived, UNBOOTABLE)  # that these bytes may not start was accepted with them
    plan = _moved(plan, case, fresh_boot=fresh is not None)

    def check(one: Executed) -> None:
        executed.check_needs([one], table, case.chip, info, case.waived)
        executed.check_signed([one], (), info)

    if loader is None or (table is None and not info.readable):
        return plan._replace(controls=(*plan.controls, _unknown(table, found, future, check)))
    if isinstance(loader, str):
        return _unbootable(plan, loader, waived)
    if table is None:
        if start.may_need_no_table(fresh):
            return plan._replace(unbootable=f"{start.NO_TABLE}, which some programs need")
        return _unbootable(plan, start.NO_TABLE, waived)
    selection = start.selection(table, found, future, check)
    reason = start.app_reason(table, found, future, check) or selection.note
    controls = [selection.control] if selection.control is not None else []
    controls += layout.outside(plan.pieces, table)
    plan = plan._replace(controls=(*plan.controls, *controls))
    if selection.run is not None:
        plan = _selected(plan, selection.run)
    return plan if reason is None else _unbootable(plan, reason, waived)


def _over_executed(plan: EspPlan, places: Sequence[ExecutedPlace], kind: str | None = None) -> bool:
    """Tell whether anything, or anything of a kind, is written over what is executed.

    Without a table nothing tells where the boot loader ends, but where it begins.
    """
    ends = [one.end if plan.table is not None else one.offset + 1 for one in places]
    return any(
        place.offset < run.end and run.offset < end
        for payload, run in plan.pieces
        if kind in (None, payload.image.kind)
        for place, end in zip(places, ends, strict=True)
    )


def _selected(plan: EspPlan, run: Run) -> EspPlan:
    """Select what was written. Kept OTA data are then not as the board has them."""
    kept = [one for one in plan.kept if not one.offset <= run.offset < one.offset + one.size]
    changed = [one.label for one in plan.kept if one not in kept]
    notes = [f"changed in {label}: which application starts" for label in changed]
    return plan._replace(selection=run, kept=kept, notes=(*plan.notes, *notes))


def _moved(plan: EspPlan, case: _Case, *, fresh_boot: bool) -> EspPlan:
    """Say that a table moves. With the board's own boot loader, nobody knows whether it starts."""
    table, before = case.table, case.before
    if table is None or before is None or before.at == table.at:
        return plan
    words = f"the partition table moves from 0x{before.at:x} to 0x{table.at:x}"
    if fresh_boot:
        return plan._replace(controls=(words,))
    return plan._replace(unbootable=f"{words}, where the board's boot loader may not look")


def _unknown(
    table: PartitionTable | None,
    found: Sequence[Executed],
    future: Future,
    check: Callable[[Executed], None],
) -> str:
    """Return what a board that cannot be read leaves open."""
    if table is None:
        return "the board's partition table is not known"
    selection = start.selection(table, found, future, check)
    return selection.control or selection.note or "what the board starts cannot be read"


def _unbootable(plan: EspPlan, reason: str, waived: Collection[str]) -> EspPlan:
    if UNBOOTABLE in waived:
        return plan._replace(unbootable=reason)
    raise Unsuitable(
        "unsuitable.bootable",
        f"the board would not start what is written: {reason}",
        expected="a boot loader, a partition table and an application that belong together",
        found=reason,
        hint="sign and flash what is missing in the same release; "
        "--accept unbootable writes it all the same",
    )
