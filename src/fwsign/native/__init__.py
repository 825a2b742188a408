# SPDX-License-Identifier: Apache-2.0
"""Native signatures: those that a chip's ROM or boot loader checks, inside the image itself.

A kind is a module of this package with two functions. `sign` returns the signed image, and `read`
what is there. Keys are held (`fwsign.keys.held`): raw signatures are all that is asked of them.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fwsign.errors import Failed, Tampered
from fwsign.format.native import BY_HASH, KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fwsign.keys.held import HeldKey

MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {"esp-secure-boot-v2": "esp", "mcuboot": "mcuboot", "rp2350": "rp2350"}
)
"""The module of each kind of `KINDS`, in this package; imported on use."""


class NativeSignature(NamedTuple):
    """One signature, which verifies with the key beside it.

    Args:
        algorithm: such as "RSA-3072" or "ECDSA P-256".
        key_digest: what the chip or its boot loader keeps of the key: an ESP's eFuse digest,
            MCUboot's KEYHASH, an RP2350's BOOTKEY.
        public_key: the key, as cryptography has it; None if the image has only its digest.
    """

    algorithm: str
    key_digest: bytes
    public_key: Any = None


class Native(NamedTuple):
    """The native signatures of an image.

    Args:
        kind: one of `KINDS`.
        security_version: the chip's number against rollback, as the image states it; None if it
            states none.
        signatures: those that are there and verify, in their order; one without a `public_key` was
            not checked.
    """

    kind: str
    security_version: int | None
    signatures: tuple[NativeSignature, ...]

    @property
    def key_digests(self) -> tuple[bytes, ...]:
        """The digests of the keys, in the order of the signatures."""
        return tuple(one.key_digest for one in self.signatures)


def sign(
    kind: str,
    image: bytes,
    keys: Sequence[HeldKey],
    *,
    security_version: int | None = None,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Return an image with native signatures.

    Args:
        kind: one of `KINDS`.
        image: the image, perhaps with signatures of this kind, which stay.
        keys: the keys; one whose signature is there already makes no second one.
        security_version: the number against rollback. Where it is compiled into the image, it must
            be the same there; elsewhere it is written. None: as the image has it.
        options: further options of the kind, by name; see `fwsign.native.options`.

    Raises:
        Malformed: `malformed.image`: not an image of this kind.
        Tampered: `tampered.native`: it has a signature that is wrong.
        Unsuitable: `unsuitable.security-version`, `unsuitable.chip`.
        Failed: `key.*`: a key that this chip cannot use, or that cannot sign; `io.format`: options
            that the kind does not have, or that do not fit the image.
    """
    module = _module(kind)
    more: dict[str, Any] = {}
    if options:
        from fwsign.native.options import parse

        more["options"] = parse(kind, getattr(module, "OPTIONS", None), options)
    signed: bytes = module.sign(image, keys, security_version=security_version, **more)
    return signed


def read(image: bytes, keys: Sequence[Any] = ()) -> Native | None:
    """Return the native signatures of an image, of whatever kind; None if it has none.

    Args:
        image: the image.
        keys: as for `read_as`.

    Raises:
        Malformed: `malformed.image`: a signature is there, and breaks its form.
        Tampered: `tampered.native`: a signature is there, and does not verify.
    """
    for kind in KINDS:
        if (found := read_as(kind, image, keys)) is not None:
            return found
    return None


def read_as(kind: str, image: bytes, keys: Sequence[Any] = ()) -> Native | None:
    """Return the native signatures of one kind in an image; None if it has none.

    Args:
        kind: one of `KINDS`.
        image: the image.
        keys: public keys that may have signed it, for kinds whose images name keys by hashes alone
            (`BY_HASH`): such a signature is checked, and has its `public_key`, where the key is
            one of these.

    Raises:
        FwsignError: as `read`.
    """
    module = _module(kind)
    known = {"keys": keys} if kind in BY_HASH else {}
    found: Native | None = module.read(image, **known)
    return found


def remarks(kind: str, image: bytes) -> list[str]:
    """Return what a signed image leaves open, for people; each kind may have such a function."""
    own = getattr(_module(kind), "remarks", None)
    return own(image) if own is not None else []


def suits(kind: str, image: bytes) -> bool:
    """Tell whether bytes are an image that a kind signs; each kind may have such a function."""
    own = getattr(_module(kind), "suits", None)
    return bool(own(image)) if own is not None else True


def has_version(kind: str, image: bytes) -> bool:
    """Tell whether an image can state a number against rollback; a kind may answer for itself."""
    own = getattr(_module(kind), "has_version", None)
    return bool(own(image)) if own is not None else True


def same(kind: str, image: bytes, signed: bytes) -> bool:
    """Tell whether two images are the same apart from signatures, which may be random.

    A kind without such a function cannot tell, and two signed images are then the same only if all
    their bytes are.
    """
    own = getattr(_module(kind), "same", None)
    return bool(own(image, signed)) if own is not None else False


def refused(kind: str, what: str, expected: object, found: object) -> Tampered:
    """Return the refusal of a native signature that is there and wrong, for a kind to raise.

    Args:
        kind: one of `KINDS`.
        what: what is wrong, as in "digest of signature 1".
        expected: the expected value, in words.
        found: the found value, in words.
    """
    message = f"{kind}: {what}: expected {expected}, found {found}"
    return Tampered("tampered.native", message, expected=expected, found=found)


def unsupported(kind: str, why: str, expected: object, found: object) -> Failed:
    """Return the refusal of a key that a kind cannot sign with.

    Args:
        kind: one of `KINDS`.
        why: a sentence about the key.
        expected: the expected kind of key.
        found: the found one.
    """
    return Failed("key.unsupported", f"{kind}: {why}", expected=expected, found=found)


def _module(kind: str) -> Any:
    return import_module(f"fwsign.native.{MODULES[kind]}")
