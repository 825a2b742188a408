# SPDX-License-Identifier: Apache-2.0
"""Plan the regions of a board, and make every refusal before anything is erased."""

import hashlib
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from fwsign.errors import Unsuitable
from fwsign.flash.boards.board import FLASH_ENCRYPTION, SECURE_BOOT, BoardInfo, Read, Run
from fwsign.flash.boards.release import HeldRelease, Payload
from fwsign.flash.device_data import Filled, lay_over
from fwsign.flash.esp import plan as esp_plan
from fwsign.flash.esp.executed import locked
from fwsign.flash.esp.kept_data import Kept
from fwsign.flash.pico import holes as pico_holes
from fwsign.flash.pico.uart import refuse_unbootable
from fwsign.images import esp, uf2
from fwsign.images.rp_chips import FLASH

_PICO_MOST: Final = 1 << 24  # bytes: what one chip select of theirs reaches
_NO_CONTROL: Final = "boot not controlled: "


class Region(NamedTuple):
    """A contiguous part of flash that a component fills, or a piece of it.

    Args:
        component: its name.
        run: its place and the bytes that the flash must hold there.
        sha256: the SHA-256 of these bytes.
    """

    component: str
    run: Run
    sha256: bytes

    @property
    def offset(self) -> int:
        """The first offset, in bytes from the start of the flash."""
        return self.run.offset

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.run.data)

    @property
    def end(self) -> int:
        """The first offset after it."""
        return self.run.end


class Plan(NamedTuple):
    """What will be written.

    Args:
        regions: what is written, in a safe order.
        selection: the run that makes them boot, after they were verified.
        kept: data of the board under the release's images that is left as it is.
        unbootable: why the board will not, or may not, start what is written.
        notes: remarks for the result.
    """

    regions: tuple[Region, ...]
    selection: Run | None = None
    kept: tuple[Kept, ...] = ()
    unbootable: str | None = None
    notes: tuple[str, ...] = ()


def make(
    held: HeldRelease,
    info: BoardInfo,
    read: Read,
    waived: Collection[str] = (),
    filled: Filled | None = None,
) -> Plan:
    """Plan the writes to a board.

    Args:
        held: a verified release, with its payloads.
        info: the board's facts.
        read: reads the board's flash, for what it holds already.
        waived: names of checks that the user has waived, as in `fwsign.flash.boards.waivers`.
        filled: the data for this board alone; None without.

    Raises:
        Unsuitable: `unsuitable.device-data`, `unsuitable.chip`, `unsuitable.payload`,
            `unsuitable.region`, `unsuitable.flash-size`, `unsuitable.locked`,
            `unsuitable.partition`, `unsuitable.revision`, `unsuitable.flash-mode`,
            `unsuitable.bootable`, `unsuitable.security-version`.
        Malformed: `malformed.image`: a partition table in the release is damaged.
        Tampered: `tampered.native`: a signature for the chip is wrong, on boards with secure boot.
    """
    payloads, notes = _for_this_chip(held, info)
    for payload in payloads:
        _check_image(payload, info)
    if FLASH_ENCRYPTION in info.locks:
        why = "it would not start what is written unencrypted"
        raise locked(FLASH_ENCRYPTION, why, "fwsign cannot flash boards with flash encryption")
    if info.kind == "pico-uf2" and SECURE_BOOT in info.locks:
        for payload in payloads:
            _check_sealed(payload)
    pieces = [(one, run) for one in payloads for run in _runs(one, info, read)]
    for payload, run in pieces:
        _check_place(payload, run, info)
    if info.kind == "smp" and len(pieces) > 1:  # each would overwrite the one before it
        raise _wrong_payload(pieces[1][0].component.name, "one image", f"{len(pieces)} images")
    judged = esp_plan.EspPlan(pieces)
    if info.kind == "esp":
        judged = esp_plan.judge(payloads, info, read, waived)
    elif info.kind == "pico-uf2" and not any(run.offset == 0 for _, run in pieces):
        judged = judged._replace(controls=("what begins the flash was not written",))
    if filled is not None:
        judged = lay_over(judged, filled)
        for payload, run in judged.pieces:
            _check_place(payload, run, info)
    _check_overlaps(judged.pieces, info.sector)
    boot = esp.bootloader_offset(info.chip or "")
    table_at = judged.table.at if judged.table else None
    ordered = sorted(judged.pieces, key=lambda piece: _safest_last(piece[1], boot, table_at))
    return Plan(
        tuple(_region(one, run) for one, run in ordered),
        judged.selection,
        tuple(judged.kept),
        judged.unbootable,
        (*notes, *_notes(held, payloads, info, judged, filled)),
    )


def _notes(
    held: HeldRelease,
    payloads: Sequence[Payload],
    info: BoardInfo,
    judged: esp_plan.EspPlan,
    filled: Filled | None,
) -> list[str]:
    """Return the remarks about what is written, and about what was not checked."""
    notes = []
    if filled is None and held.policy is not None:
        notes.append("the release allows data for each board, and none was given")
    if info.flash_size is None and info.kind != "smp":
        notes.append("the board does not tell the size of its flash, so that was not checked")
    notes += [f"{one.component.name}: {note}" for one in payloads for note in one.image.notes]
    reasons = (*judged.controls, judged.unbootable)
    notes += [_NO_CONTROL + one for one in reasons if one]
    notes += judged.notes
    if judged.kept:
        names = ", ".join(one.label for one in judged.kept)
        notes.append(f"kept as the board has it: {names}; --erase-data replaces it")
    return notes


# --- which payloads -------------------------------------------------------------------------


def _for_this_chip(held: HeldRelease, info: BoardInfo) -> tuple[list[Payload], list[str]]:
    notes: list[str] = []
    if held.elsewhere:
        notes.append(f"not for this board, they go elsewhere: {', '.join(held.elsewhere)}")
    if held.left_out:
        notes.append(f"not for flash, left out: {', '.join(held.left_out)}")
    chips = sorted({one.chip for one in held.payloads})
    if info.chip is None:
        if len(chips) > 1:
            raise _wrong_chip("one chip, for the board does not tell which it is", chips)
        notes.append(f"the board does not tell its chip, the release is for {chips[0]}")
        return list(held.payloads), notes
    chosen = [one for one in held.payloads if one.chip == info.chip]
    if not chosen:
        raise _wrong_chip(info.chip, chips)
    left = [one.component.name for one in held.payloads if one.chip != info.chip]
    if left:
        notes.append(f"for other chips, left out: {', '.join(left)}")
    return chosen, notes


def _wrong_chip(expected: str, chips: Sequence[str]) -> Unsuitable:
    found = ", ".join(chips)
    return Unsuitable(
        "unsuitable.chip",
        f"the release is for {found}, the board is {expected}",
        expected=expected,
        found=found,
    )


def _check_image(payload: Payload, info: BoardInfo) -> None:
    """Check that the image is for this chip, this place and this boot loader."""
    name, image = payload.component.name, payload.image
    if image.chip is not None and image.chip != payload.chip:
        raise Unsuitable(
            "unsuitable.chip",
            f"{name} is an image for {image.chip}, signed for {payload.chip}",
            expected=payload.chip,
            found=image.chip,
        )
    if info.kind == "smp" and image.kind != "mcuboot":
        raise _wrong_payload(name, "an MCUboot image", image.kind)
    if image.kind == "uf2" and not payload.chip.startswith("rp"):
        raise _wrong_payload(name, "the image itself, not a UF2 file", image.kind)
    expected = esp.place_expected(image, payload.chip, payload.offset)
    if expected is not None:
        raise payload.misplaced(f"offset 0x{expected:x}", f"0x{payload.offset:x}")
    target = uf2.place_expected(image, payload.chip, payload.offset)
    if target == "file":
        why = "".join(f": {note}" for note in image.notes[:1])
        raise Unsuitable(
            "unsuitable.payload",
            f"{name} has nothing for the flash of {payload.chip}{why}",
            expected=f"flash of {payload.chip}",
            found="a UF2 file for something else",
        )
    if target is not None:
        raise payload.misplaced(target, f"{payload.chip}@0x{payload.offset:x}")


def _check_sealed(payload: Payload) -> None:
    """Refuse an image that the ROM of an RP2350 with secure boot would not start.

    Whether it knows the key, PICOBOOT does not tell here.
    """
    from fwsign.native import rp2350  # for such boards alone

    if rp2350.read(payload.data) is None:
        hint = "seal it with the board's key: fwsign sign --native rp2350"
        raise locked(SECURE_BOOT, f"{payload.component.name} has no signature for it", hint)


def _runs(payload: Payload, info: BoardInfo, read: Read) -> Iterator[Run]:
    if payload.image.kind != "uf2":
        yield Run(payload.offset, payload.data)
        return
    ranges = uf2.contents(payload.data, payload.chip)
    runs = [Run(address - FLASH, data) for address, data in ranges]
    for run in runs:  # before the board is asked for bytes that it does not have
        _check_size(payload, run, info)
    yield from pico_holes.filled(payload, runs, info, read)


def _wrong_payload(name: str, expected: str, found: str) -> Unsuitable:
    return Unsuitable(
        "unsuitable.payload",
        f"{name} is of kind {found}, this board takes {expected}",
        expected=expected,
        found=found,
    )


# --- which places ---------------------------------------------------------------------------


def _check_place(payload: Payload, run: Run, info: BoardInfo) -> None:
    if not run.data:
        raise payload.misplaced("at least one byte", "none")
    if info.kind == "smp":  # the boot loader has one place, and does not name it
        return
    if run.offset % info.sector:
        raise payload.misplaced(f"a multiple of {info.sector}", f"0x{run.offset:x}")
    if run.offset < info.start:
        raise payload.misplaced(f"0x{info.start:x} or more", f"0x{run.offset:x}")
    if info.kind == "pico-uart" and run.offset == info.start:
        refuse_unbootable(run)
    _check_size(payload, run, info)


def _check_size(payload: Payload, run: Run, info: BoardInfo) -> None:
    size = _PICO_MOST if info.flash_size is None and info.kind == "pico-uf2" else info.flash_size
    if size is not None and run.end > size:
        raise Unsuitable(
            "unsuitable.flash-size",
            f"{payload.component.name} ends at 0x{run.end:x}, the board's flash at 0x{size:x}",
            expected=f"at most 0x{size:x}",
            found=f"0x{run.end:x}",
        )


def _check_overlaps(pieces: Sequence[tuple[Payload, Run]], sector: int) -> None:
    """Refuse regions that share a sector, since a sector is erased as a whole."""
    ordered = sorted(pieces, key=lambda piece: piece[1].offset)
    for (before, first), (after, second) in itertools.pairwise(ordered):
        end = -(-first.end // sector) * sector
        if second.offset < end:
            names = f"{before.component.name} and {after.component.name}"
            raise Unsuitable(
                "unsuitable.region",
                f"{names} overlap: one ends at 0x{end:x}, the other begins at 0x{second.offset:x}",
                expected=f"0x{end:x} or more",
                found=f"0x{second.offset:x}",
            )


# --- in which order -------------------------------------------------------------------------


def _region(payload: Payload, run: Run) -> Region:
    return Region(payload.component.name, run, hashlib.sha256(run.data).digest())


def _safest_last(run: Run, boot: int | None, table: int | None) -> tuple[int, int]:
    """Sort data and applications first, then the partition table, then the boot loader."""
    return (2 if run.offset == boot else 1 if run.offset == table else 0, run.offset)
