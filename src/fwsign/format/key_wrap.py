# SPDX-License-Identifier: Apache-2.0
"""Wrap a content key for a group of devices, and open it: ECDH-ES + A256KW (RFC 9053 s.6.4).

Each wrapping has a new ephemeral key, so that no two share a key-encryption key.
"""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwsign.errors import Tampered, Unsuitable
from fwsign.format import cbor
from fwsign.format.component import Component, Encrypted
from fwsign.format.encryption import WRAPPING, Recipient, thumbprint

_CURVES: Final[Mapping[int, type[ec.EllipticCurve]]] = MappingProxyType(
    {1: ec.SECP256R1, 2: ec.SECP384R1}
)
"""COSE's numbers of the curves that group keys are on."""
CURVES: Final = "P-256 or P-384"
"""The curves of group keys, in words."""
_KW_SIZE: Final = 32
_A256KW: Final = -5


def _context(algorithm: int, size: int, protected: bytes, *other: bytes) -> bytes:
    """Return what a key is derived for, encoded (RFC 9053 s.5.2); the parties are unnamed."""
    return cbor.encode((algorithm, (None,) * 3, (None,) * 3, (8 * size, protected, *other)))


_CONTEXT: Final = _context(_A256KW, _KW_SIZE, WRAPPING, b"SUIT Payload Encryption")


class AgreementKey(Protocol):
    """A group's private key, wherever it is."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""

    def agree(self, other: ec.EllipticCurvePublicKey) -> bytes:
        """Return the x coordinate of the shared point (ECDH)."""


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a group's key id: the SHA-256 of its SubjectPublicKeyInfo."""
    form = PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(Encoding.DER, form)).digest()


def curve_of(key: Any) -> int | None:
    """Return COSE's number of a public key's curve; None for a key that no payload goes to."""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    return next((number for number, one in _CURVES.items() if isinstance(key.curve, one)), None)


def wrap(content_key: bytes, key: ec.EllipticCurvePublicKey) -> Recipient:
    """Wrap a content key for a group.

    Args:
        content_key: 32 random bytes.
        key: the group's public key; `curve_of` knows its curve.
    """
    ephemeral = ec.generate_private_key(key.curve)
    kek = _derive(ephemeral.exchange(ec.ECDH(), key))
    numbers, size = ephemeral.public_key().public_numbers(), (key.key_size + 7) // 8
    point = (numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big"))
    curve = next(number for number, one in _CURVES.items() if isinstance(key.curve, one))
    return Recipient(key_id(key), curve, point, aes_key_wrap(kek, content_key))


def unwrap(
    component: Component,
    encrypted: Encrypted,
    recipients: Sequence[Recipient],
    keys: Sequence[AgreementKey],
) -> bytes:
    """Return the content key of a component's payload.

    Args:
        component: the component, for refusals.
        encrypted: what is signed of its encryption.
        recipients: the wrapped keys.
        keys: the keys of this device.

    Raises:
        Unsuitable: `unsuitable.recipient`: none of the keys is a recipient's.
        Tampered: `tampered.content-key`: it does not open, or is not the signed one.
    """
    own = {key_id(one.public_key): one for one in keys}
    for recipient in recipients:
        if recipient.key_id in own:
            return _open(component, encrypted, recipient, own[recipient.key_id])
    wanted = ", ".join(one.key_id.hex() for one in recipients)
    have = ", ".join(one.hex() for one in own)
    raise Unsuitable(
        "unsuitable.recipient",
        f'the payload of "{component.name}" is encrypted to the keys {wanted}, '
        f"this device has {have or 'none'}",
        step=10,
        expected=wanted,
        found=have or "none",
    )


def _open(
    component: Component, encrypted: Encrypted, recipient: Recipient, key: AgreementKey
) -> bytes:
    what = f'the wrapped key of "{component.name}" for {recipient.key_id.hex()}'
    x, y = (int.from_bytes(one, "big") for one in recipient.ephemeral)
    curve = _CURVES[recipient.curve]()
    try:
        if not isinstance(key.public_key.curve, type(curve)):
            raise ValueError("another curve")
        # A point that is not on the curve is a ValueError, before the private key is used.
        other = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
        content_key = aes_key_unwrap(_derive(key.agree(other)), recipient.wrapped)
    except (ValueError, InvalidUnwrap):
        raise Tampered(
            "tampered.content-key", f"{what} does not open: it was changed or exchanged", step=10
        ) from None
    if thumbprint(content_key) != encrypted.key_digest:
        raise Tampered(
            "tampered.content-key", f"{what} holds another key than the signed one", step=10
        )
    return content_key


def _derive(shared: bytes) -> bytes:
    return HKDF(hashes.SHA256(), _KW_SIZE, salt=None, info=_CONTEXT).derive(shared)
