# SPDX-License-Identifier: Apache-2.0
"""Verify a raw signature that a service or an agent has made, before anybody uses it.

A server behind a load balancer, a key that was rotated, an agent that somebody else runs: each may
answer with another key's signature. Certificates and boot images would carry it to the devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from fwsign.errors import Failed
from fwsign.format import cose
from fwsign.format.library import der_from_raw
from fwsign.keys.held import Scheme

if TYPE_CHECKING:
    from fwsign.keys.held import HeldKey


def checked(key: HeldKey, scheme: Scheme, data: bytes, digest: str, signature: bytes) -> bytes:
    """Return a signature that the key's public half verifies.

    Args:
        key: the key that has signed.
        scheme: how.
        data: what it got: a digest, a message or mu, as the scheme says.
        digest: the digest's name; "" where the scheme has none.
        signature: what it gave, in the form of `HeldKey.sign_raw`.

    Raises:
        Failed: `key.failed`: it does not verify.
    """
    try:
        _verify(key.public_key, scheme, data, digest, signature)
    except (InvalidSignature, ValueError) as error:
        raise Failed(
            "key.failed",
            f"{key.place} gave a signature that its own public key does not verify",
            expected="a signature of this key",
            found="another",
        ) from error
    return signature


def _verify(public: Any, scheme: Scheme, data: bytes, digest: str, signature: bytes) -> None:
    if scheme is Scheme.PURE:
        public.verify(signature, data)
        return
    if scheme is Scheme.MU:
        public.verify_mu(signature, data)
        return
    own = cose.HASHES[digest]
    if scheme is Scheme.ECDSA:
        half = (public.curve.key_size + 7) // 8
        if len(signature) != 2 * half:
            raise InvalidSignature
        public.verify(der_from_raw(signature), data, ec.ECDSA(Prehashed(own)))
        return
    how = cose.pss(own) if scheme is Scheme.PSS else padding.PKCS1v15()
    public.verify(signature, data, how, Prehashed(own))
