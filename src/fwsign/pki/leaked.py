# SPDX-License-Identifier: Apache-2.0
"""Keys that leaked, and the other certificates of a revoked key."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fwsign.errors import Failed
from fwsign.pki import crls
from fwsign.x509.certificate import key_digest

if TYPE_CHECKING:
    from collections.abc import Collection

    from cryptography import x509

    from fwsign.keys import PublicKey
    from fwsign.pki.directory import Pki


def unrevoked(pki: Pki, certificate: x509.Certificate) -> tuple[tuple[x509.Certificate, str], ...]:
    """Return the other certificates of a certificate's key that no CRL has, and their issuers."""
    found = {}
    key = certificate.public_key()
    for one in (one for one in pki.held() if one.public_key() == key):
        with contextlib.suppress(Failed):  # another PKI's, or its CRL is elsewhere
            if one != certificate and pki.revocation_of(one) is None:
                found[one.serial_number] = (one, pki.issuer_of(one))
    return tuple(found.values())


def leaked_keys(pki: Pki) -> frozenset[str]:
    """Return the keys whose certificates were revoked because they leaked, by `key_digest`."""
    entries = list(pki.noted())
    for ca in pki.authorities():
        with contextlib.suppress(Failed):  # it may be elsewhere
            entries += pki.crl(ca)
    serials = {entry.serial_number for entry in entries if crls.has_leaked(entry)}
    if not serials:
        return frozenset()
    return frozenset(
        key_digest(one.public_key()) for one in pki.held() if one.serial_number in serials
    )


def refuse_leaked(key: PublicKey, what: str, leaked: Collection[str]) -> None:
    """Refuse to certify a key that leaked, also under another name.

    Args:
        key: the key.
        what: its holder, for the refusal.
        leaked: from `leaked_keys`.

    Raises:
        Failed: `state.pki`.
    """
    if key_digest(key) in leaked:
        raise Failed(
            "state.pki",
            f"the key of {what} leaked: a certificate of it was revoked for that reason",
            expected="a new key",
            found="a key that leaked",
            hint="make another key: fwsign key new",
        )
