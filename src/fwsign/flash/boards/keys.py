# SPDX-License-Identifier: Apache-2.0
"""Native signatures against what a chip knows: would it start this image?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwsign.errors import Unsuitable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwsign.flash.boards.board import SecureBoot

_HINT = "sign it natively with a key of the board, too: docs/native.md has the bridge"


def refuse(name: str, keys: Sequence[bytes], version: int | None, known: SecureBoot) -> None:
    """Refuse an image that a chip with secure boot does not start; what it hides is let pass.

    Args:
        name: the image's name.
        keys: the digests of the keys that have signed it.
        version: its number against rollback; None if it states none.
        known: what the chip knows. One that tells no key at all is not asked for them.

    Raises:
        Unsuitable: `unsuitable.locked`: by unknown or revoked keys alone;
            `unsuitable.security-version`: too old.
    """
    if known.key_digests and not any(map(known.accepts, keys)):
        signed = ", ".join(key.hex() for key in keys) or "none"
        accepted = ", ".join(known.key_digests)
        gone = "the revoked " if any(key.hex() in known.revoked for key in keys) else ""
        raise Unsuitable(
            "unsuitable.locked",
            f"the board starts images by the keys {accepted}, {name} is signed by {gone}{signed}",
            expected=accepted,
            found=signed,
            hint=_HINT,
        )
    least = known.security_version
    if version is not None and least is not None and version < least:
        raise Unsuitable(
            "unsuitable.security-version",
            f"the board starts security version {least} and later ones, {name} has {version}",
            expected=f"{least} or more",
            found=version,
        )
