# SPDX-License-Identifier: Apache-2.0
"""The identifiers that a manifest has instead of names (SUIT section 8.4.8.2)."""

import hashlib
from typing import Final

_NAMESPACE_DNS: Final = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8")


def vendor_id(vendor: str) -> bytes:
    """Derive the vendor identifier: UUID5 of the domain name (section 8.4.8.2), 16 bytes."""
    return _uuid5(_NAMESPACE_DNS, vendor)


def class_id(vendor: str, product: str) -> bytes:
    """Derive the class identifier: UUID5 of the product under the vendor's, 16 bytes."""
    return _uuid5(vendor_id(vendor), product)


def _uuid5(namespace: bytes, name: str) -> bytes:
    # RFC 9562 section 5.5. The module `uuid` would only load `platform` as well.
    made = bytearray(hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    made[6] = made[6] & 0x0F | 0x50  # the version
    made[8] = made[8] & 0x3F | 0x80  # the variant
    return bytes(made)
