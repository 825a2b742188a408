# SPDX-License-Identifier: Apache-2.0
"""Encrypted payloads: what is signed about them, and the keys beside it (COSE_Encrypt, RFC 9052).

The manifest has parameter 19 for each encrypted component: the algorithm, the nonce, and the
thumbprint of the content key, as a COSE_Encrypt whose one recipient names its key (direct, -6):

    96([<< {1: 3} >>, {5: nonce}, null, [[h'', {1: -6, 4: thumbprint}, h'']]])

The key itself comes in the envelope as `#encryption-INDEX`, wrapped for each group of devices
(draft-ietf-suit-firmware-encryption, ECDH-ES + A256KW):

    96([<< {1: 3} >>, {5: nonce}, null,
        [[<< {1: -31} >>, {-1: {1: 2, -1: curve, -2: x, -3: y}, 4: key id}, wrapped key], ...]])

No signature covers this: whoever has the content key can wrap it for others. Whoever has not can
only break it, since a device takes no key but the one with the signed thumbprint.
"""

import hashlib
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fwsign.errors import Malformed, check_limit
from fwsign.format import cbor
from fwsign.format.component import Component, Encrypted

ENCRYPT_TAG: Final = 96
A256GCM: Final = 3
ECDH_ES_A256KW: Final = -31
DIRECT: Final = -6
KEY_SIZE: Final = 32
"""Bytes of a content key."""
NONCE_SIZE: Final = 12
WRAPPED_SIZE: Final = KEY_SIZE + 8
"""Bytes of a wrapped key (RFC 3394)."""
KEY_ID_SIZE: Final = 32
"""Bytes of a recipient's key id: the SHA-256 of its SubjectPublicKeyInfo."""
MAX_RECIPIENTS: Final = 64
"""Groups that one payload is encrypted to."""

_CONTENT: Final = cbor.encode({1: A256GCM})
WRAPPING: Final = cbor.encode({1: ECDH_ES_A256KW})
"""The protected header of a recipient."""
_COORDINATES: Final = MappingProxyType({1: 32, 2: 48})
"""COSE's curves, P-256 and P-384, with the bytes of a coordinate."""


class Recipient(NamedTuple):
    """A content key, wrapped for one group of devices.

    Args:
        key_id: the SHA-256 of the group's SubjectPublicKeyInfo.
        curve: the curve of group and ephemeral key, as COSE numbers it: 1 or 2.
        ephemeral: x and y of the ephemeral public key.
        wrapped: the content key, wrapped.
    """

    key_id: bytes
    curve: int
    ephemeral: tuple[bytes, bytes]
    wrapped: bytes


def thumbprint(content_key: bytes) -> bytes:
    """Return the SHA-256 thumbprint of a content key, as a COSE_Key (RFC 9679).

    It tells nothing of a key that was drawn at random, and names exactly one.
    """
    return hashlib.sha256(cbor.encode({1: 4, -1: content_key})).digest()


def encode_signed(nonce: bytes, key_digest: bytes) -> bytes:
    """Encode parameter 19."""
    return _encode(nonce, [(b"", {1: DIRECT, 4: key_digest}, b"")])


def decode_signed(data: Any) -> tuple[bytes, bytes]:
    """Read nonce and thumbprint from parameter 19; the caller encodes them again, and compares.

    Raises:
        Malformed: `malformed.cbor`, `malformed.encryption`.
    """
    if isinstance(data, bytes):
        match cbor.decode(data):
            case cbor.Tag(96, (_, {5: bytes(nonce)}, None, ((_, {4: bytes(thumb)}, _),))) if (
                len(nonce) == NONCE_SIZE and len(thumb) == KEY_ID_SIZE
            ):
                return nonce, thumb
    raise _refused("parameter 19 is not A256GCM with a nonce and the thumbprint of a key")


def encode_recipients(nonce: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Encode `#encryption-INDEX`."""
    return _encode(nonce, [_recipient(one) for one in recipients])


def _recipient(one: Recipient) -> tuple[Any, ...]:
    x, y = one.ephemeral
    ephemeral = {1: 2, -1: one.curve, -2: x, -3: y}
    return (WRAPPING, {-1: ephemeral, 4: one.key_id}, one.wrapped)


def decode_recipients(
    component: Component, encrypted: Encrypted, data: bytes
) -> tuple[Recipient, ...]:
    """Read `#encryption-INDEX`.

    Args:
        component: the component, for refusals.
        encrypted: what is signed of its encryption.
        data: the bytes in the envelope.

    Raises:
        Malformed: `malformed.cbor`, `malformed.encryption`, `malformed.size`.
    """
    what = f'the wrapped keys of "{component.name}"'
    match cbor.decode(data):
        case cbor.Tag(96, (_, _, None, (_, *_) as listed)):
            check_limit(len(listed), MAX_RECIPIENTS, f"{len(listed)} recipients")
        case _:
            raise _refused(f"{what} are no COSE_Encrypt with a detached payload and recipients")
    recipients = tuple(_read(one, what) for one in listed)
    if encode_recipients(encrypted.nonce, recipients) != data:
        raise _refused(f"{what} have a nonce, a header or an algorithm other than the signed one")
    if len({one.key_id for one in recipients}) != len(recipients):
        raise _refused(f"{what} name one key id twice")
    return recipients


def _read(recipient: Any, what: str) -> Recipient:
    match recipient:
        case (
            _,
            {-1: {-1: int(curve), -2: bytes(x), -3: bytes(y)}, 4: bytes(key_id)},
            bytes(wrapped),
        ) if (
            curve is not True  # which Python takes for 1
            and len(x) == len(y) == _COORDINATES.get(curve)
            and len(key_id) == KEY_ID_SIZE
            and len(wrapped) == WRAPPED_SIZE
        ):
            return Recipient(key_id, curve, (x, y), wrapped)
    raise _refused(f"{what} have a recipient that is not ECDH-ES + A256KW on P-256 or P-384")


def _encode(nonce: bytes, recipients: Sequence[tuple[Any, ...]]) -> bytes:
    return cbor.encode(cbor.Tag(ENCRYPT_TAG, (_CONTENT, {5: nonce}, None, tuple(recipients))))


def additional_data() -> bytes:
    """Return what each block authenticates beside itself: the Enc_structure (RFC 9052 s.5.3)."""
    return cbor.encode(("Encrypt", _CONTENT, b""))


def _refused(message: str) -> Malformed:
    return Malformed("malformed.encryption", message)
