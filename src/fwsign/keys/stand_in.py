# SPDX-License-Identifier: Apache-2.0
"""Let cryptography's builders sign certificates, requests and CRLs with a key held elsewhere.

The builders take any object of their abstract key types, and call its `sign`. So a stand-in has the
type of the key, and passes the message on to the backend. It has no private numbers to give away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from fwsign.errors import Failed
from fwsign.format.algorithms import DIGESTS
from fwsign.format.cose import key_name, kind_of
from fwsign.format.library import der_from_raw
from fwsign.keys.held import Scheme, sign_message

if TYPE_CHECKING:
    from fwsign.keys import PrivateKey
    from fwsign.keys.held import HeldKey


def private_key(held: HeldKey) -> PrivateKey:
    """Return an object that cryptography takes for the private key.

    Args:
        held: the key; P-256, P-384, P-521, Ed25519, RSA or ML-DSA.

    Raises:
        Failed: `key.unsupported`: a key of another kind.
    """
    public: Any = held.public_key
    if isinstance(public, ec.EllipticCurvePublicKey) and kind_of(public) is not None:
        return _EllipticCurve(held)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return _Ed25519(held)
    if isinstance(public, rsa.RSAPublicKey):
        return _Rsa(held)
    made = _ml_dsa(held)
    if made is None:
        raise Failed(
            "key.unsupported",
            f"no certificate can be signed with a key of {key_name(public)}",
            expected="P-256, P-384, P-521, Ed25519, RSA or ML-DSA",
            found=key_name(public),
        )
    return made


class _StandIn:
    """What all stand-ins share: the public half, and no way to the private one."""

    def __init__(self, held: HeldKey) -> None:
        self._held = held

    def public_key(self) -> Any:
        return self._held.public_key

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise Failed(
            "key.unsupported",
            f"the key stays where it is, at {self._held.place}: it cannot be written to a file",
            expected="a key in a file",
            found=self._held.place,
        )

    private_bytes = private_numbers = private_bytes_raw = _refuse
    exchange = decrypt = _refuse

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class _EllipticCurve(_StandIn, ec.EllipticCurvePrivateKey):
    @property
    def curve(self) -> ec.EllipticCurve:
        return cast("ec.EllipticCurve", self.public_key().curve)

    @property
    def key_size(self) -> int:
        return self.curve.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        digest = _digest_name(signature_algorithm.algorithm)
        return der_from_raw(sign_message(self._held, Scheme.ECDSA, bytes(data), digest))


class _Ed25519(_StandIn, ed25519.Ed25519PrivateKey):
    def sign(self, data: Any) -> bytes:
        return sign_message(self._held, Scheme.PURE, bytes(data))


class _Rsa(_StandIn, rsa.RSAPrivateKey):
    @property
    def key_size(self) -> int:
        return cast("int", self.public_key().key_size)

    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:
        scheme = Scheme.PKCS1 if _is_pkcs1(padding) else Scheme.PSS
        return sign_message(self._held, scheme, bytes(data), _digest_name(algorithm))


def _ml_dsa(held: HeldKey) -> PrivateKey | None:
    """Return a stand-in of ML-DSA; None if the key is of another kind, or this version has none."""
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        return None

    class MlDsa(_StandIn):
        def sign(self, data: Any, context: Any = None) -> bytes:
            if context:
                self._refuse()
            return sign_message(self._held, Scheme.PURE, bytes(data))

        def sign_mu(self, mu: Any) -> bytes:
            return self._held.sign_raw(Scheme.MU, bytes(mu))

    for public, private in (
        (mldsa.MLDSA65PublicKey, mldsa.MLDSA65PrivateKey),
        (mldsa.MLDSA87PublicKey, mldsa.MLDSA87PrivateKey),
    ):
        if isinstance(held.public_key, public):
            return cast("PrivateKey", type("MlDsa", (MlDsa, private), {})(held))
    return None


def _is_pkcs1(scheme: object) -> bool:
    return isinstance(scheme, padding.PKCS1v15)


def _digest_name(algorithm: Any) -> str:
    """Return the name, as in `DIGESTS`, of the digest that a builder asks for."""
    return {one.function: one.name for one in DIGESTS.values()}[algorithm.name]
