# SPDX-License-Identifier: Apache-2.0
"""Native signatures against what a chip knows: would it start this image?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwsign.errors import Unsuitable

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_keys(
    name: object, signed_by: Sequence[bytes], known: Sequence[bytes], hint: str | None = None
) -> None:
    """Refuse an image that no key of a board has signed.

    Args:
        name: the image.
        signed_by: the digests of the keys that have signed it.
        known: the digests in the chip that are not revoked; perhaps only their first bytes.
        hint: what to do about it.

    Raises:
        Unsuitable: `unsuitable.locked`.
    """
    if any(digest.startswith(key) for digest in signed_by for key in known):
        return
    expected = " or ".join(key.hex() for key in known) or "none: all are revoked"
    found = ", ".join(digest.hex() for digest in signed_by) or "none that its ROM can verify"
    raise Unsuitable(
        "unsuitable.locked",
        f"no key that the board's secure boot knows has signed {name}: expected {expected}, "
        f"found {found}",
        expected=expected,
        found=found,
        hint=hint,
    )


def check_version(name: object, own: int | None, least: int | None) -> None:
    """Refuse an application that a boot loader with anti-rollback passes over.

    Args:
        name: the image.
        own: its number against rollback; None if it states none.
        least: the board's; None if it is unknown.

    Raises:
        Unsuitable: `unsuitable.security-version`.
    """
    if least is not None and own is not None and own < least:
        raise too_old(name, own, least)


def too_old(name: object, own: int | None, least: int) -> Unsuitable:
    """Return the refusal of an image below the number of a board, or without any."""
    found = "none" if own is None else own
    return Unsuitable(
        "unsuitable.security-version",
        f"{name} has security version {found}, the chip {least}: it starts no older one",
        expected=f"{least} or more",
        found=found,
        hint="it is too old for this board; build it with a newer security version",
    )
