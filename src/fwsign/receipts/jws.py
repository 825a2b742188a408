# SPDX-License-Identifier: Apache-2.0
"""Detached compact JWS (RFC 7515 appendix F) with a closed list of headers.

The header is canonical JSON: alg, kid (SHA-256 of the public key, in hex), typ, and x5c where the
key is certified. The signatures of JOSE and COSE have the same form for these algorithms.
"""

import base64
import json
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fwsign.errors import Failed, Malformed, Tampered
from fwsign.format.algorithms import ALGORITHMS
from fwsign.format.cose import MAX_CHAIN, PublicKey, verify_signature
from fwsign.keys import Signer
from fwsign.receipts.canonical import canonical
from fwsign.x509.certificate import key_digest, parse_certificate

_NUMBERS: Final = {one.jose: number for number, one in ALGORITHMS.items() if one.jose}
"""JOSE -> COSE."""
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.\.([A-Za-z0-9_-]+)")


class Jws(NamedTuple):
    """A decoded JWS; nothing of it is verified yet.

    Args:
        head: the header as received, in base64url.
        algorithm: the COSE algorithm identifier.
        kid: SHA-256 of the public key, in hex.
        chain: DER certificates, leaf first; none for a bare key.
        signature: in COSE form.
    """

    head: str
    algorithm: int
    kid: str
    chain: tuple[bytes, ...]
    signature: bytes

    def verify(self, payload: bytes, key: PublicKey) -> None:
        """Verify the signature over a payload.

        Raises:
            Malformed: `malformed.algorithm` if key and algorithm do not fit.
            Tampered: `tampered.signature`.
        """
        verify_signature(self.algorithm, key, _message(self.head, payload), self.signature)


def sign(payload: bytes, signer: Signer, chain: Sequence[bytes], typ: str) -> str:
    """Sign a payload, verify the signature, and return the JWS.

    Args:
        payload: the bytes to sign; they are not in the JWS.
        signer: the holder of the key.
        chain: the key's certificates, DER, leaf first, without the anchor; none for a bare key.
        typ: the kind of the payload (RFC 8725 section 3.11).

    Raises:
        Failed: `key.mismatch`, `key.failed`, and the signer's own errors.
        Malformed, Untrusted: for the leaf.
    """
    key = signer.public_key
    header: dict[str, Any] = {
        "alg": ALGORITHMS[signer.algorithm].jose,
        "kid": key_digest(key),
        "typ": typ,
    }
    if chain:
        leaf = parse_certificate(chain[0])
        if leaf.spki != header["kid"]:
            raise Failed(
                "key.mismatch",
                f'the key is not that of certificate "{leaf.name}"',
                expected=leaf.spki,
                found=header["kid"],
            )
        header["x5c"] = [base64.b64encode(data).decode() for data in chain]
    head = _encode(canonical(header).encode())
    message = _message(head, payload)
    signature = signer.sign(message)
    try:
        verify_signature(signer.algorithm, key, message, signature)
    except Tampered as error:
        raise Failed("key.failed", f"the key's own signature is wrong: {error}") from None
    return f"{head}..{_encode(signature)}"


def parse(text: object, typ: str) -> Jws:
    """Read a JWS, strictly: only the one form that `sign` writes is accepted.

    Raises:
        Malformed: `malformed.receipt`.
    """
    try:
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError("it is not a detached compact one")
        head = _decode(found[1]).decode()
        match json.loads(head):
            case {"alg": str(alg), "kid": str(kid), "typ": str(kind), **rest} as header:
                chain = _chain(rest.pop("x5c")) if "x5c" in rest else ()
            case _:
                raise ValueError("its header lacks alg, kid or typ")
        if rest or canonical(header) != head or alg not in _NUMBERS or kind != typ:
            raise ValueError("its header is not of the closed form")
        return Jws(found[1], _NUMBERS[alg], kid, chain, _decode(found[2]))
    except (ValueError, RecursionError) as error:
        raise Malformed("malformed.receipt", f"the JWS: {error}") from None


def _chain(x5c: object) -> tuple[bytes, ...]:
    if not isinstance(x5c, list) or not 1 <= len(x5c) <= MAX_CHAIN:
        raise ValueError(f"x5c is not a list of 1 to {MAX_CHAIN}")
    chain = tuple(base64.b64decode(str(text), validate=True) for text in x5c)
    if [base64.b64encode(data).decode() for data in chain] != x5c:
        raise ValueError("x5c has base64 with stray bits")
    return chain


def _message(head: str, payload: bytes) -> bytes:
    """Return the bytes that a JWS signs (RFC 7515 section 5.1)."""
    return f"{head}.{_encode(payload)}".encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Decode base64url, strictly: the result encodes to the same text."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encode(data) != text:
        raise ValueError("base64url with stray bits")
    return data
