# SPDX-License-Identifier: Apache-2.0
"""Plan the regions of a board, and make every refusal before anything is erased."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from fwsign.errors import Unsuitable
from fwsign.flash import esp_boot, esp_plan, pico_holes
from fwsign.flash.board import (
    FLASH_ENCRYPTION,
    SECURE_BOOT,
    SECURE_BOOT_V1,
    BoardInfo,
    Run,
)
from fwsign.flash.held import HeldRelease, Payload
from fwsign.flash.pico_uart import refuse_unbootable
from fwsign.images import esp, uf2
from fwsign.images.esp_data import TABLE_OFFSET
from fwsign.images.esp_flash import SECTOR

_XIP: Final = 0x10000000  # where the RP chips see their flash
_PICO_MOST: Final = 1 << 24  # bytes: what one chip select of theirs reaches
_V1_LIMIT: Final = 0x8000
_NO_CONTROL: Final = "boot not controlled: "
_SIGNED: Final = ("application", "boot loader", "merged")  # roles that secure boot verifies


class Region(NamedTuple):
    """A contiguous part of flash that a component fills.

    Args:
        component: its name.
        offset: in bytes from the start of the flash.
        size: in bytes.
        sha256: the SHA-256 of the bytes that the flash must hold there.
        parts: the same bytes in a safe order for writing.
    """

    component: str
    offset: int
    size: int
    sha256: bytes
    parts: tuple[Run, ...]

    @property
    def end(self) -> int:
        """The first offset after it."""
        return self.offset + self.size


class Plan(NamedTuple):
    """The regions, the run that makes them boot, and the notes for the result."""

    regions: tuple[Region, ...]
    selection: Run | None
    notes: tuple[str, ...]


def make(held: HeldRelease, info: BoardInfo, read: esp_plan.Read) -> Plan:
    """Plan the writes to a board.

    Args:
        held: a verified release, with its payloads.
        info: the board's facts.
        read: reads the board's flash, for the partition table it has.

    Raises:
        Unsuitable: `unsuitable.chip`, `unsuitable.payload`, `unsuitable.region`,
            `unsuitable.flash-size`, `unsuitable.locked`, `unsuitable.partition`.
        Malformed: `malformed.image`: a partition table in the release is damaged.
    """
    payloads, notes = _for_this_chip(held, info)
    for payload in payloads:
        _check_image(payload, info)
    pieces = [(one, run) for one in payloads for run in _runs(one, info, read)]
    for payload, run in pieces:
        _check_place(payload, run, info)
        if info.kind == "pico-uart" and run.offset == info.start:
            refuse_unbootable(run)
    if info.kind == "smp" and len(pieces) > 1:  # each would overwrite the one before it
        raise _wrong_payload(pieces[1][0].component.name, "one image", f"{len(pieces)} images")
    _check_overlaps(pieces, info.sector)
    _check_locks(payloads, pieces, info)
    if info.flash_size is None and info.kind != "smp":
        notes.append("the board does not tell the size of its flash, so that was not checked")
    runs = [run for _, run in pieces]
    selection = esp_boot.Selection()
    if info.kind == "esp":
        selection = esp_plan.selection(payloads, runs, info, read)
    elif info.kind == "pico-uf2" and not any(run.offset == 0 for run in runs):
        selection = esp_boot.Selection(note="what begins the flash was not written")
    if selection.note:
        notes.append(_NO_CONTROL + selection.note)
    regions = [_region(one, run) for one, run in sorted(pieces, key=_safest_last)]
    return Plan(tuple(regions), selection.run, tuple(notes))


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


def _runs(payload: Payload, info: BoardInfo, read: esp_plan.Read) -> Iterator[Run]:
    if payload.image.kind != "uf2":
        yield Run(payload.offset, payload.data)
        return
    ranges = uf2.contents(payload.data, payload.chip)
    runs = [Run(address - _XIP, data) for address, data in ranges]
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


# --- what the board forbids -----------------------------------------------------------------


def _check_locks(
    payloads: Sequence[Payload], pieces: Sequence[tuple[Payload, Run]], info: BoardInfo
) -> None:
    if FLASH_ENCRYPTION in info.locks:
        raise _locked(FLASH_ENCRYPTION, "the board would not start what is written unencrypted")
    if SECURE_BOOT_V1 in info.locks:
        for payload, run in pieces:
            if run.offset < _V1_LIMIT:
                raise _locked(SECURE_BOOT_V1, f"{payload.component.name} is below 0x{_V1_LIMIT:x}")
    if SECURE_BOOT in info.locks:
        for payload in payloads:
            signed = any(name.startswith("secure boot") for name, _ in payload.image.details)
            if payload.image.role in _SIGNED and not signed:
                raise _locked(SECURE_BOOT, f"{payload.component.name} has no signature for it")


def _locked(lock: str, why: str) -> Unsuitable:
    return Unsuitable(
        "unsuitable.locked",
        f"the board has {lock} switched on, and {why}",
        expected=f"no {lock}",
        found=lock,
    )


# --- in which order -------------------------------------------------------------------------


def _region(payload: Payload, run: Run) -> Region:
    return Region(
        payload.component.name,
        run.offset,
        len(run.data),
        hashlib.sha256(run.data).digest(),
        tuple(_safe_parts(payload, run)),
    )


def _safe_parts(payload: Payload, run: Run) -> Iterator[Run]:
    """Cut a merged ESP image so that its boot loader and partition table come last."""
    cut = TABLE_OFFSET + SECTOR
    if payload.image.role != "merged" or run.offset >= TABLE_OFFSET or run.end <= cut:
        yield run
        return
    table = TABLE_OFFSET - run.offset
    yield Run(cut, run.data[cut - run.offset :])
    yield Run(TABLE_OFFSET, run.data[table : cut - run.offset])
    yield Run(run.offset, run.data[:table])


def _safest_last(piece: tuple[Payload, Run]) -> tuple[int, int]:
    """Sort data and applications first, then the partition table, then the boot loader."""
    payload, run = piece
    below = run.offset < TABLE_OFFSET
    table = run.offset == TABLE_OFFSET or payload.image.role == "partition table"
    return (2 if below else 1 if table else 0, run.offset)
