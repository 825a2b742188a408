# SPDX-License-Identifier: Apache-2.0
"""The decoded answers of MCUboot's serial recovery, and our words for them."""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from fwsign.errors import Failed

Slot: TypeAlias = dict[str, Any]
"""One entry of the list of images."""

INVALID: Final = 3
_RESULTS: Final = {
    1: "an unknown error",
    2: "no memory",
    INVALID: "an invalid value",
    4: "a timeout",
    5: "no such image",
    6: "not possible in this state",
    7: "too large",
    8: "not supported",
    9: "corrupt",
    10: "busy",
    11: "access denied",
}


def is_application(slots: Sequence[Slot]) -> bool:
    """Tell whether an application lists its slots."""
    return any(slot.get("active") for slot in slots)  # the boot loader marks no slot as active


def place(slot: Slot) -> tuple[Any, Any]:
    """Return the numbers of the image and of the slot."""
    return slot.get("image", 0), slot.get("slot")  # a board with one image does not number it


def first_slot(slots: Sequence[Slot]) -> Slot | None:
    """Return the slot for uploads, if it is listed."""
    return next((slot for slot in slots if place(slot) == (0, 0)), None)


def listed_hash(slot: Slot) -> bytes:
    """Return a slot's listed hash; empty if there is none."""
    found = slot.get("hash")
    return found if isinstance(found, bytes) else b""


def result(answer: dict[str, Any]) -> int:
    """Return an answer's result code: 0 is success, and may be left out."""
    error = answer.get("err")  # only in version 2 of the protocol
    code = (error if isinstance(error, dict) else answer).get("rc", 0)
    if not isinstance(code, int):
        raise unexpected("result", "a number", code)
    return code


def next_offset(answer: dict[str, Any]) -> int:
    """Return the offset at which an upload continues."""
    offset = answer.get("off")
    if not isinstance(offset, int):
        raise unexpected("next offset", "a number", offset)
    return offset


def words(code: int) -> str:
    """Put a result code into words."""
    return f"{_RESULTS.get(code, 'an error')} ({code})"


def refused(what: str, code: int) -> Failed:
    """Return the error for a command that the boot loader did not do."""
    return Failed(
        "device.refused",
        f"the boot loader did not {what}: {words(code)}",
        expected="success",
        found=words(code),
    )


def unexpected(what: str, expected: str, found: object) -> Failed:
    """Return the error for a wrong answer."""
    shown = f"{found}"[:60] if found is not None else "nothing"
    return Failed(
        "device.protocol",
        f"{what}: expected {expected}, the boot loader says {shown}",
        expected=expected,
        found=shown,
    )


def not_taken(expected: bytes, first: Slot | None) -> Failed:
    """Return the error for an image that was uploaded whole, and is not the one that is listed."""
    if first is None:
        words = "it lists none: a byte is wrong in its flash, or it does not accept the signature"
        found = "no image"
    else:
        version = first.get("version", "unknown")
        words = f"it lists another, version {version}: it went back to that one"
        found = listed_hash(first).hex() or "an image without a hash"
    return Failed(
        "device.mismatch",
        f"the boot loader has taken the whole image, but {words}",
        expected=expected.hex(),
        found=found,
        hint="is the image signed with a key that this boot loader knows, and of no lower version?",
    )
