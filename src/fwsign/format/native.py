# SPDX-License-Identifier: Apache-2.0
"""What a release states of the native signature of a component, in its text.

A native signature is inside the image: a chip's ROM or boot loader checks it. The manifest has the
image's digest, and so the very bytes of that signature. The statement says what they shall be: the
kind, the number against rollback, and the digests of the keys. Whoever installs compares them.
"""

from typing import Any, Final, NamedTuple

from fwsign.format.suit import outside

KINDS: Final = ("esp-secure-boot-v2", "mcuboot", "rp2350")
"""The kinds of native signatures."""
BY_HASH: Final = ("mcuboot",)
"""The kinds whose images name keys by hashes alone: without the keys no signature is checked."""
MAX_KEYS: Final = 8
"""Keys of one component: an ESP knows three, an RP2350 four."""
MAX_SECURITY_VERSION: Final = 0xFFFFFFFF
"""Each chip keeps the number in 32 bits or fewer."""
DIGEST_SIZES: Final = (32, 48, 64)
"""Bytes of a key's digest: SHA-256, and what MCUboot takes with other hashes."""


class StatedNative(NamedTuple):
    """What a release states of one component.

    Args:
        kind: one of `KINDS`.
        security_version: the number against rollback; None if the image has none.
        key_digests: the keys that may have signed it, one of which must; none twice.
    """

    kind: str
    security_version: int | None
    key_digests: tuple[bytes, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as it stands in JSON and in receipts."""
        return {
            "kind": self.kind,
            "security_version": self.security_version,
            "key_digests": [one.hex() for one in self.key_digests],
        }


def native_fault(stated: StatedNative) -> str | None:
    """Return what is wrong with a statement; None if it is well-formed."""
    kind, version, digests = stated
    if kind not in KINDS:
        return f"native signature {kind!r:.40}, expected {', '.join(KINDS)}"
    if version is not None and not 0 <= version <= MAX_SECURITY_VERSION:
        return f"security version {version}, expected 0 to {MAX_SECURITY_VERSION}"
    if not 1 <= len(digests) <= MAX_KEYS:
        return f"{len(digests)} native keys, expected 1 to {MAX_KEYS}"
    for one in digests:
        if len(one) not in DIGEST_SIZES:
            return f"a native key's digest of {len(one)} bytes, expected 32, 48 or 64"
    if len(set(digests)) < len(digests):
        return "a native key that is named twice"
    return None


def encode_native(stated: StatedNative) -> list[Any]:
    """Return the value in the text of a component."""
    return [stated.kind, stated.security_version, list(stated.key_digests)]


def decode_native(value: Any) -> StatedNative:
    """Read the value in the text of a component.

    Raises:
        Malformed: `malformed.profile`.
    """
    match value:
        case [str(kind), int() | None as version, [*digests]] if all(
            isinstance(one, bytes) for one in digests
        ):
            if isinstance(version, bool):
                raise outside("a security version that is not a number")
            stated = StatedNative(kind, version, tuple(digests))
        case _:
            raise outside("a native signature that is not [kind, security version, key digests]")
    if (wrong := native_fault(stated)) is not None:
        raise outside(f"the text has {wrong}")
    return stated
