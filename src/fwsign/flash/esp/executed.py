# SPDX-License-Identifier: Apache-2.0
"""Check the images that a release writes to the places that an ESP executes.

The ROM executes the boot loader, which executes an application. Each reads the header of the next:
chip, revision, flash size, digest and, with secure boot, a signature. What they would refuse is
refused here, before the first erase.

Source: ESP-IDF programming guide, "App Image Format", "Secure Boot v1" and "v2".
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from fwsign.errors import Malformed, Unsuitable
from fwsign.flash.boards import keys
from fwsign.flash.boards.board import SECURE_BOOT, SECURE_BOOT_V1, BoardInfo
from fwsign.flash.boards.release import Payload
from fwsign.flash.boards.waivers import FLASH_MODE, FLASH_SIZE, LAYOUT, REVISION, UNBOOTABLE
from fwsign.flash.esp.future import Future
from fwsign.flash.esp.layout import RAW_HINT, Piece
from fwsign.flash.esp.table import PartitionTable
from fwsign.images import esp
from fwsign.images.base import ImagePart
from fwsign.images.esp_partitions import Partition

_BLANK: Final = b"\xff"
_PAGE: Final = 0x10000
_OCTAL_MODE: Final = "dout"
_V1_LIMIT: Final = 0x8000  # secure boot v1 keeps everything below it


class ExecutedPlace(NamedTuple):
    """A place that the board executes: the boot loader's, or the beginning of an app partition."""

    what: str
    offset: int
    end: int


class Executed(NamedTuple):
    """An image at such a place, and the payload that brings it; None for the board's own."""

    place: ExecutedPlace
    part: ImagePart
    payload: Payload | None

    @property
    def name(self) -> str:
        """The name for messages."""
        return self.payload.component.name if self.payload else f"{self.place.what} on the board"


def boot_place(chip: str, table: PartitionTable | None, flash_end: int) -> ExecutedPlace:
    """Return the place of the boot loader, which ends where the table begins."""
    offset = esp.bootloader_offset(chip) or 0
    end = table.at if table is not None and table.at > offset else flash_end
    return ExecutedPlace("the boot loader", offset, end)


def app_places(table: PartitionTable | None, pieces: Sequence[Piece]) -> list[ExecutedPlace]:
    """Return the places of applications: where the table has them, else where the release does."""
    if table is None:
        apps = [(one, run) for one, run in pieces if one.image.role == "application"]
        return [ExecutedPlace(one.component.name, run.offset, run.end) for one, run in apps]
    return [app_place(one) for one in table.apps]


def app_place(part: Partition) -> ExecutedPlace:
    """Return the place of the application in a partition."""
    return ExecutedPlace(f'the application in "{part.label}"', part.offset, part.offset + part.size)


def brought(
    pieces: Sequence[Piece],
    future: Future,
    places: Sequence[ExecutedPlace],
    *,
    raw: bool,
    locked: bool,
) -> list[Executed]:
    """Return the images that a run brings to places that are executed.

    Args:
        pieces: what is written.
        future: the flash as it will be.
        places: the places.
        raw: whether bytes that are no image were allowed by name.
        locked: whether the board has secure boot, which would not start such bytes.

    Raises:
        Unsuitable: `unsuitable.region`: other bytes than an image.
    """
    found = []
    for place in places:
        covering = [one for one, run in pieces if run.offset <= place.offset < run.end]
        if not covering:
            continue
        payload = covering[0]
        unknown = payload.image.kind == "unknown" and not locked
        if unknown and raw:
            continue
        if payload.image.role == "merged" and future.read(place.offset, 1) == _BLANK:
            continue  # an empty slot
        try:
            part = future.part(place.offset, place.end)
        except Malformed as error:
            what = f"{place.what} at 0x{place.offset:x}"
            begins = payload.offset == place.offset and payload.image.role == "application"
            whole = begins or payload.image.role == "merged"  # its bounds or its inside are wrong
            words = error.message if whole else payload.image.role
            hint = RAW_HINT if unknown else None
            raise payload.misplaced(what, words or "no image for an ESP", hint) from None
        if part is not None:
            found.append(Executed(place, part, payload))
    return found


def check_needs(
    found: Sequence[Executed],
    table: PartitionTable | None,
    chip: str,
    info: BoardInfo,
    waived: Collection[str],
) -> None:
    """Refuse images that this chip, its flash or the table does not suit.

    Args:
        found: the images.
        table: the table in force; None if unknown.
        chip: the chip that the release is for.
        info: the board's facts.
        waived: names of waivers.

    Raises:
        Unsuitable: `unsuitable.chip`, `unsuitable.bootable`, `unsuitable.partition`,
            `unsuitable.revision`, `unsuitable.flash-size`, `unsuitable.flash-mode`,
            `unsuitable.security-version`.
    """
    end = max((one.offset + one.size for one in table.partitions), default=0) if table else 0
    boot = esp.bootloader_offset(chip)
    for one in found:
        if one.part.chip != chip:
            raise Unsuitable(
                "unsuitable.chip",
                f"{one.name} has an image for {one.part.chip}, the board is {chip}",
                expected=chip,
                found=one.part.chip,
            )
        if one.part.unstartable is not None and UNBOOTABLE not in waived:
            raise Unsuitable(
                "unsuitable.bootable",
                f"no boot loader starts {one.name}: {one.part.unstartable}",
                expected="an image that a boot loader starts",
                found=one.part.unstartable,
                hint="build it again; --accept unbootable writes it all the same",
            )
        if LAYOUT not in waived and one.place.offset != boot:
            _check_page(one)
        if REVISION not in waived:
            _check_revision(one, info.revision)
        if FLASH_SIZE not in waived:
            _check_flash(one, info.flash_size, end if one.place.offset == boot else 0)
        if FLASH_MODE not in waived and info.octal:
            _check_mode(one)
        keys.check_version(one.name, one.part.secure_version, info.security_version)


def _check_page(one: Executed) -> None:
    """Refuse an application that cannot be mapped: its segments lie in flash as in memory."""
    if one.place.offset % _PAGE:
        raise Unsuitable(
            "unsuitable.partition",
            f"{one.name} is at 0x{one.place.offset:x}, and applications are mapped from "
            f"multiples of 0x{_PAGE:x}",
            expected=f"a multiple of 0x{_PAGE:x}",
            found=f"0x{one.place.offset:x}",
            hint="move its partition; --accept layout writes it all the same",
        )


def _check_revision(one: Executed, revision: int | None) -> None:
    needs = one.part.needs
    if needs is None or revision is None:
        return
    lowest, highest = needs.min_revision, needs.max_revision
    if lowest <= revision and (highest is None or revision <= highest):
        return
    wanted = f"{_version(lowest)} or later"
    if highest is not None:
        wanted = f"{_version(lowest)} to {_version(highest)}"
    raise Unsuitable(
        "unsuitable.revision",
        f"{one.name} needs a chip of revision {wanted}, the board's has {_version(revision)}",
        expected=wanted,
        found=_version(revision),
        hint="is it the right board? --accept revision writes it all the same",
    )


def _version(revision: int) -> str:
    return f"v{revision // 100}.{revision % 100}"


def _check_flash(one: Executed, flash_size: int | None, table_end: int) -> None:
    """Refuse a header with a larger flash than the board's, or a smaller one than the table's."""
    size = one.part.needs.flash_size if one.part.needs is not None else None
    if size is None:
        return
    if flash_size is not None and size > flash_size:
        what, expected = "the board has", f"at most {_megabytes(flash_size)}"
        other = _megabytes(flash_size)
    elif size < table_end:
        what, expected = "the partition table ends at", f"at least 0x{table_end:x} bytes"
        other = f"0x{table_end:x}"
    else:
        return
    raise Unsuitable(
        "unsuitable.flash-size",
        f"{one.name} is made for a flash of {_megabytes(size)}, {what} {other}",
        expected=expected,
        found=_megabytes(size),
        hint="build it for this flash; --accept flash-size writes it all the same",
    )


def _check_mode(one: Executed) -> None:
    """Refuse an image for four data lines: one for eight has dout in its header."""
    mode = one.part.needs.flash_mode if one.part.needs is not None else _OCTAL_MODE
    if mode != _OCTAL_MODE:
        raise Unsuitable(
            "unsuitable.flash-mode",
            f"{one.name} is made for flash in mode {mode}, the board's is octal",
            expected=f"{_OCTAL_MODE}, as in images for octal flash",
            found=mode,
            hint="build it for octal flash; --accept flash-mode writes it all the same",
        )


def _megabytes(size: int) -> str:
    return f"{size >> 20} MB"


def check_signed(found: Sequence[Executed], pieces: Sequence[Piece], info: BoardInfo) -> None:
    """Refuse images that secure boot would not start, for want of its signature.

    Args:
        found: the images that are written.
        pieces: all that is written.
        info: the board's facts.

    Raises:
        Unsuitable: `unsuitable.locked`.
        Tampered: `tampered.native`: a signature of v2 does not verify.
    """
    scheme = {SECURE_BOOT_V1: "v1", SECURE_BOOT: "v2"}
    for lock in info.locks:
        if lock not in scheme:
            continue
        if lock == SECURE_BOOT_V1:
            for payload, run in pieces:
                name, image = payload.component.name, payload.image
                if run.offset < _V1_LIMIT:
                    raise locked(lock, f"{name} is below 0x{_V1_LIMIT:x}")
                # Some boot loaders verify the table, too; ESP-IDF's build signs it.
                if image.role == "partition table" and not image.parts[0].secure_boot:
                    raise locked(lock, f"{name} has no signature for it", _SIGN[lock])
        for one in found:
            if not any(made.startswith(scheme[lock]) for made in one.part.secure_boot):
                raise locked(lock, f"{one.name} has no signature for it", _SIGN[lock])
            if lock == SECURE_BOOT and info.boot_keys is not None:
                _check_key(one, info.boot_keys)


def _check_key(one: Executed, known: Sequence[bytes]) -> None:
    """Refuse an image that no key of the board has signed: all that its ROM looks at is checked.

    Args:
        one: the image; the signatures of the board's own were verified when it was written.
        known: the digests in its eFuses that are not revoked; perhaps only their first bytes.
    """
    signed_by = one.part.key_digests
    if one.payload is not None:
        from fwsign.native import esp as native_esp  # for boards with secure boot alone

        made = native_esp.read(one.payload.data)
        signed_by = made.key_digests if made is not None else ()
    keys.check_keys(one.name, signed_by, known, _SIGN[SECURE_BOOT])


_SIGN: Final = {
    SECURE_BOOT_V1: "sign it with the board's key first: espsecure sign-data --version 1",
    SECURE_BOOT: "sign it with the board's key: fwsign sign --native esp-secure-boot-v2",
}


def locked(lock: str, why: str, hint: str | None = None) -> Unsuitable:
    """Return the refusal of a board that is locked."""
    return Unsuitable(
        "unsuitable.locked",
        f"the board has {lock} switched on, and {why}",
        expected=f"no {lock}",
        found=lock,
        hint=hint,
    )
