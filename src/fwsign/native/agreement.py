# SPDX-License-Identifier: Apache-2.0
"""Check that a release and the native signature in its image say the same.

The manifest has the image's digest, so both are about the same bytes. What the release states of
the signature must be what is there: the kind, the number against rollback, and the keys, no more
and no fewer. A statement about another build, or by somebody who signed with another key, is found
here, before a chip finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwsign.errors import Tampered, Unsuitable, Untrusted, check_limit
from fwsign.format.native import MAX_KEYS, StatedNative
from fwsign.native import Native, read_as, refused, unsupported

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MAX_IMAGE = 64 * 1024 * 1024
"""Bytes of an image whose native signature is read; twice the flash that any chip starts from."""


def state(native: Native) -> StatedNative:
    """Return what a release states of an image's native signature.

    Raises:
        Tampered: `tampered.native`: a merged file whose images have no key in common.
        Failed: `key.unsupported`: more keys than a release states.
    """
    kind, digests = native.kind, tuple(dict.fromkeys(native.key_digests))
    if not digests:
        refusal = refused(kind, "signatures of the images", "one key that signed them all", "none")
        raise refusal.with_hint("sign each image by the same key before they are merged")
    if len(digests) > MAX_KEYS:
        why = f"a release states at most {MAX_KEYS} keys, and {len(digests)} signed the image"
        raise unsupported(kind, why, f"at most {MAX_KEYS}", len(digests))
    return StatedNative(kind, native.security_version, digests)


def check(name: str, stated: StatedNative, image: bytes) -> Native:
    """Refuse an image whose native signature is not as its release states it.

    Args:
        name: the component's name.
        stated: what the release states.
        image: the component's payload.

    Returns:
        The signatures, each as stated.

    Raises:
        Malformed: `malformed.image`, `malformed.size`.
        Tampered: `tampered.native`: there is none of this kind, or one that is wrong.
        Unsuitable: `unsuitable.security-version`.
        Untrusted: `untrusted.native-key`.
    """
    check_limit(len(image), MAX_IMAGE, f"{name}: an image of {len(image)} bytes")
    found = read_as(stated.kind, image)
    if found is None:
        raise absent(name, stated.kind)
    check_version(name, found, stated.security_version)
    if set(found.key_digests) != set(stated.key_digests):
        raise _other_keys(name, "is signed natively by other keys", stated.key_digests, found)
    return found


def absent(name: str, kind: str) -> Tampered:
    """Return the refusal of an image without the native signature that it shall have."""
    return Tampered(
        "tampered.native",
        f"{name}: expected a native signature {kind} in the image, found none",
        expected=f"a native signature {kind}",
        found="none",
    )


def check_version(name: str, found: Native, expected: int | None) -> None:
    """Refuse an image with another number against rollback.

    Args:
        name: the image's name.
        found: its native signatures.
        expected: the number; None if it shall have none.

    Raises:
        Unsuitable: `unsuitable.security-version`.
    """
    own, other = (_version(one) for one in (expected, found.security_version))
    if own != other:
        raise Unsuitable(
            "unsuitable.security-version",
            f"{name}: expected security version {own}, found {other} in the image",
            expected=own,
            found=other,
        )


def check_keys(name: str, found: Native, expected: Collection[bytes]) -> None:
    """Refuse an image that any other key than the expected ones has signed, or none of them.

    Args:
        name: the image's name.
        found: its native signatures.
        expected: the digests of the keys that may sign it.

    Raises:
        Untrusted: `untrusted.native-key`.
    """
    if not found.signatures or not set(found.key_digests) <= set(expected):
        raise _other_keys(name, "is signed natively by a key that is not expected", expected, found)


def _other_keys(name: str, why: str, expected: Iterable[bytes], found: Native) -> Untrusted:
    wanted, there = (_words(one) for one in (expected, found.key_digests))
    return Untrusted(
        "untrusted.native-key",
        f"{name} {why}: expected {wanted}, found {there}",
        expected=wanted,
        found=there,
    )


def _words(digests: Iterable[bytes]) -> str:
    return ", ".join(sorted(one.hex() for one in digests)) or "none"


def _version(number: int | None) -> str:
    return "none" if number is None else str(number)
