# SPDX-License-Identifier: Apache-2.0
"""Read the signatures of an MCUboot image, and check all that can be checked.

An image names its keys by a hash alone. So a signature is checked only where the key is given, and
else it is reported without a key: never call that verified. What imgtool's `verify` lets pass is
refused here: bytes after the TLVs, a security counter or others that nothing protects, a hash or a
key too many.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from fwsign.format import cose
from fwsign.images import mcuboot_tlvs, mcuboot_trailer
from fwsign.images.base import damaged
from fwsign.images.mcuboot_tlvs import (
    ENCRYPTED,
    HASHES,
    KEY_HASH,
    PUBLIC_KEY,
    PURE,
    SECURITY_COUNTER,
    SIGNATURES,
    McubootImage,
    Tlvs,
)
from fwsign.native import Native, NativeSignature, refused
from fwsign.native.mcuboot_keys import (
    McubootAlgorithm,
    algorithm_of_name,
    by_tlv,
    is_der,
    is_valid,
    key_bytes,
    key_hash,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fwsign.errors import Malformed

KIND: Final = "mcuboot"
DIGESTS: Final = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
"""The digests of images, as `fwsign.format.cose.HASHES` names them."""
_WIDTHS: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
_KEYS: Final = (KEY_HASH, PUBLIC_KEY)
_NEVER_PROTECTED: Final = {*_KEYS, *SIGNATURES, PURE, *range(0x30, 0x35)}


class SignedPair(NamedTuple):
    """A signature's TLV, and that of its key before it."""

    key: tuple[int, bytes]
    signature: tuple[int, bytes]


class McubootParts(NamedTuple):
    """An image that was read strictly, and whose hash is right.

    Args:
        image: header and TLVs.
        data: the hashed part.
        digest: the name of the image's digest; "" for an image without any TLV.
        pure: whether signatures are over the image, not its hash.
        pairs: keys and signatures.
        rest: the bytes after the image: the erased ones of a slot, and its trailer.
    """

    image: McubootImage
    data: bytes
    digest: str
    pure: bool
    pairs: tuple[SignedPair, ...]
    rest: int


def read(image: bytes, keys: Sequence[Any] = ()) -> Native | None:
    """Return the signatures of an image; None if it has none, or is not MCUboot's.

    Args:
        image: the image, or a whole slot.
        keys: public keys that may have signed it.

    Returns:
        A signature has its `public_key` if it was checked: with one of `keys`, or with the key in
        the image. The hash of an encrypted image is over the plain text, so nothing is checked.

    Raises:
        Malformed: `malformed.image`.
        Tampered: `tampered.native`: a signature does not verify with its key.
    """
    if image[:4] not in mcuboot_tlvs.MAGICS:
        return None
    parts = read_parts(image)
    if not parts.pairs:
        return None
    signatures = tuple(_checked(number, parts, keys) for number in range(len(parts.pairs)))
    return Native(KIND, parts.image.security_counter, signatures)


def read_parts(image: bytes) -> McubootParts:
    """Read an image strictly, and check its hash unless it is encrypted.

    Raises:
        Malformed: `malformed.image`.
    """
    file = io.BytesIO(image)
    found = mcuboot_tlvs.read_image(file)
    rest = found.rest.left
    mcuboot_trailer.read(found.rest, big_endian=found.order == ">")
    for kind, value in found.protected:
        if kind in _NEVER_PROTECTED:
            raise damaged(KIND, "protected tlvs", "no key and no signature", f"type {kind:#x}")
        if kind == SECURITY_COUNTER and len(value) != 4:
            raise damaged(KIND, "security counter", "4 bytes", f"{len(value)} bytes")
    for kind in found.vendor:
        raise damaged(KIND, "tlvs", "none of a vendor, which nothing protects", f"type {kind:#x}")
    if found.algorithm:
        if len(found.hash) != _WIDTHS[found.algorithm]:
            expected = f"{_WIDTHS[found.algorithm]} bytes"
            raise damaged(KIND, found.algorithm, expected, f"{len(found.hash)} bytes")
        if not found.header.flags & ENCRYPTED:
            mcuboot_tlvs.check_hash(file, found)
    pure = _is_pure(found.unprotected)
    pairs = tuple(_pairs(found.unprotected))
    digest = DIGESTS.get(found.algorithm, "")
    for pair in pairs:
        _algorithm(pair, digest, pure=pure)
    return McubootParts(found, image[: found.hashed], digest, pure, pairs, rest)


def _is_pure(tlvs: Tlvs) -> bool:
    found = [value for kind, value in tlvs if kind == PURE]
    if found and found[0] != b"\1":
        raise damaged(KIND, "mark of a pure signature", "01", found[0].hex() or "nothing")
    return bool(found)


def _pairs(tlvs: Tlvs) -> Iterator[SignedPair]:
    """Yield keys and signatures: MCUboot takes each signature as that of the key before it."""
    key: tuple[int, bytes] | None = None
    seen: set[bytes] = set()
    width = next((len(value) for kind, value in tlvs if kind in HASHES), 0)
    for kind, value in tlvs:
        if kind in _KEYS:
            if key is not None:
                raise damaged(KIND, "tlvs", "a signature after its key", f"type {kind:#x}")
            if kind == KEY_HASH and len(value) != width:
                raise damaged(KIND, "key hash", f"{width} bytes", f"{len(value)} bytes")
            if value in seen:
                raise damaged(KIND, "tlvs", "each key once", f"key {value[:8].hex()}... again")
            seen.add(value)
            key = (kind, value)
        elif kind in SIGNATURES:
            if key is None:
                raise damaged(KIND, "tlvs", "a key before its signature", f"type {kind:#x}")
            yield SignedPair(key, (kind, value))
            key = None
    if key is not None:
        raise damaged(KIND, "tlvs", "a signature after its key", "no signature")


def _algorithm(pair: SignedPair, digest: str, *, pure: bool) -> McubootAlgorithm:
    kind, signature = pair.signature
    found = by_tlv(kind, digest, pure=pure)
    if not found:
        form = f"{SIGNATURES[kind]} with {digest}{', pure' if pure else ''}"
        raise damaged(KIND, "signature", "an algorithm that suits the hash", form)
    fits = is_der(signature) if kind == 0x22 else len(signature) == found[0].width
    if not fits:
        expected = "a DER signature" if kind == 0x22 else f"{found[0].width} bytes"
        raise damaged(KIND, "signature", expected, f"{len(signature)} bytes")
    return found[0]


def _checked(number: int, parts: McubootParts, keys: Sequence[Any]) -> NativeSignature:
    """Check one signature if its key is known."""
    pair = parts.pairs[number]
    algorithm = _algorithm(pair, parts.digest, pure=parts.pure)
    kind, value = pair.key
    public = _embedded(value) if kind == PUBLIC_KEY else None
    named = value if kind == KEY_HASH else key_hash(public, parts.digest)
    if parts.image.header.flags & ENCRYPTED:
        return NativeSignature(algorithm.name, named)
    if public is None:
        public = next((one for one in keys if key_hash(one, parts.digest) == named), None)
    if public is None:
        return NativeSignature(algorithm.name, named)
    message = parts.data if parts.pure else b""
    # The key that the hash names decides how to verify, so it must be of the TLV's own kind.
    fits = algorithm_of_name(cose.key_name(public)) == algorithm
    if not fits or not is_valid(public, pair.signature[1], parts.image.hash, parts.digest, message):
        expected = f"one that verifies with key {named.hex()}"
        raise refused(KIND, f"signature {number}", expected, f"another {algorithm.name} signature")
    return NativeSignature(algorithm.name, named, public)


def _embedded(encoded: bytes) -> Any:
    try:
        public: Any = load_der_public_key(encoded)
        if key_bytes(public) == encoded:
            return public
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise _no_key(encoded)


def _no_key(encoded: bytes) -> Malformed:
    return damaged(KIND, "public key", "a key in DER", f"{len(encoded)} bytes of something else")
