# SPDX-License-Identifier: Apache-2.0
"""Read JSON with keys or certificates in it: JSON Web Keys (RFC 7517), and what cfssl prints."""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448, x25519

from fwsign.format.algorithms import KEYS
from fwsign.keys.unlock import check_rsa

MAX_DEPTH: Final = 8
"""Levels of JSON that are searched; cfssl's answers have three."""
MAX_NUMBER: Final = 2048
"""Bytes of one number: RSA of 16384 bits. Checking a larger key would take minutes."""
_CURVES: Final[Mapping[str, ec.EllipticCurve]] = MappingProxyType(
    {
        **{one.name: one.imported("")() for one in KEYS if one.family == "ECDSA"},
        "secp256k1": ec.SECP256K1(),
    }
)
_OKP: Final[Mapping[str, tuple[Any, Any]]] = MappingProxyType(
    {
        "Ed25519": (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey),
        "Ed448": (ed448.Ed448PublicKey, ed448.Ed448PrivateKey),
        "X25519": (x25519.X25519PublicKey, x25519.X25519PrivateKey),
        "X448": (x448.X448PublicKey, x448.X448PrivateKey),
    }
)


def parse(data: bytes) -> Any:
    """Return the object in JSON text; None if it is no such text."""
    if data[:1] not in (b"{", b"["):
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def pem_in(value: Any, depth: int = 0) -> Iterator[bytes]:
    """Yield each string with PEM in it, as cfssl writes them: cert, key, csr, bundle."""
    if isinstance(value, str) and "-----BEGIN " in value:
        yield value.encode()
    elif depth < MAX_DEPTH and isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from pem_in(one, depth + 1)


def keys_in(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Return the JSON Web Keys in a JSON value: it is one, or a set of them."""
    if not isinstance(value, dict):
        return ()
    each = value.get("keys") if isinstance(value.get("keys"), list) else [value]
    return tuple(one for one in each or () if isinstance(one, dict) and "kty" in one)


def load(key: Mapping[str, Any], *, view: bool = False) -> tuple[Any, Any]:
    """Return the private key, or None, and the public key of a JSON Web Key.

    Args:
        key: its members.
        view: as for `fwsign.keys.unlock.open_key`.

    Raises:
        ValueError: a damaged key, or one of a kind that is not supported.

    Source: RFC 7518 section 6, RFC 8037.
    """
    try:
        match key["kty"]:
            case "EC":
                return _ec(key)
            case "RSA":
                return _rsa(key, view=view)
            case "OKP":
                return _okp(key)
    except (KeyError, TypeError, OverflowError, UnsupportedAlgorithm) as error:
        raise ValueError(f"a part is absent or wrong: {error}") from None
    raise ValueError("a key type that is not supported")


def _ec(key: Mapping[str, Any]) -> tuple[Any, Any]:
    numbers = ec.EllipticCurvePublicNumbers(_int(key["x"]), _int(key["y"]), _CURVES[key["crv"]])
    if "d" not in key:
        return None, numbers.public_key()
    private = ec.EllipticCurvePrivateNumbers(_int(key["d"]), numbers).private_key()
    return private, private.public_key()


def _rsa(key: Mapping[str, Any], *, view: bool) -> tuple[Any, Any]:
    numbers = rsa.RSAPublicNumbers(_int(key["e"]), _int(key["n"]))
    if "d" not in key:
        return None, numbers.public_key()
    p, q, d, dp, dq, qi = (_int(key[name]) for name in ("p", "q", "d", "dp", "dq", "qi"))
    private = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, numbers).private_key(
        unsafe_skip_rsa_key_validation=view
    )
    if view:
        check_rsa(private)
    return private, private.public_key()


def _okp(key: Mapping[str, Any]) -> tuple[Any, Any]:
    public, private = _OKP[key["crv"]]
    if "d" not in key:
        return None, public.from_public_bytes(_bytes(key["x"]))
    loaded = private.from_private_bytes(_bytes(key["d"]))
    if loaded.public_key().public_bytes_raw() != _bytes(key["x"]):
        raise ValueError("its two halves do not belong together")
    return loaded, loaded.public_key()


def _bytes(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError(f"not base64url: {error}") from None


def _int(text: str) -> int:
    content = _bytes(text)
    if len(content) > MAX_NUMBER:
        raise ValueError(f"a number of {len(content)} bytes, expected at most {MAX_NUMBER}")
    return int.from_bytes(content, "big")
