# SPDX-License-Identifier: Apache-2.0
"""Keys that are held elsewhere: one interface for all backends, and signers made of them.

A backend makes raw signatures and nothing else: it gets a digest, or a message for algorithms that
hash on their own. Digests are made on the host, since few tokens hash. An ssh-agent is the
opposite: it hashes, and takes no digest. So whoever has a message calls `sign_message`; only who
has nothing but a digest calls `sign_raw`. What COSE, X.509 or a boot ROM wants around a raw
signature is made by its own module.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fwsign.errors import Failed
from fwsign.format import algorithms, cose
from fwsign.keys import key_file
from fwsign.keys.file import algorithm_of

if TYPE_CHECKING:
    from fwsign.keys import PublicKey, Signer


class Scheme(Enum):
    """How a key signs: the data that it gets, and the form of the signature."""

    ECDSA = "ECDSA"
    """Data: a digest. Signature: r and s, each as wide as the curve's order."""
    PSS = "RSASSA-PSS"
    """Data: a digest. MGF1 has the same digest, and the salt is as long (RFC 8017 s.8.1)."""
    PKCS1 = "RSASSA-PKCS1-v1_5"
    """Data: a digest (RFC 8017 s.8.2); certificates and CRLs of RSA keys have it."""
    PURE = "pure"
    """Data: a message of any length. Ed25519 (RFC 8032), and ML-DSA with an empty context."""
    MU = "external mu"
    """Data: the 64 bytes of mu (FIPS 204 s.6.2). ML-DSA alone."""


class HeldKey(Protocol):
    """A private key behind a URI, opened: logged in, found, ready to sign more than once."""

    @property
    def place(self) -> str:
        """Where the key is: a URI without any secret, for people, logs and records."""

    @property
    def public_key(self) -> PublicKey:
        """The public half, as the backend gives it."""

    def sign_raw(self, scheme: Scheme, data: bytes, digest: str = "") -> bytes:
        """Sign.

        Args:
            scheme: how; one that suits the key.
            data: a digest or a message, as the scheme says.
            digest: the digest's name, as in "SHA-256"; "" where the scheme has none.

        Raises:
            Failed: `key.*`: the backend could not sign, has gone, or cannot sign like this.
        """

    def close(self) -> None:
        """Log out, if nobody else uses the login. Closing twice does no harm."""


@runtime_checkable
class HashingKey(Protocol):
    """A held key that hashes messages itself, and takes no digests."""

    def sign_message(self, scheme: Scheme, message: bytes, digest: str = "") -> bytes:
        """Sign a whole message; see `sign_message` of this module."""


class HeldSigner:
    """Signs releases with a key held elsewhere; a `fwsign.keys.Signer`.

    Args:
        key: the key.

    Raises:
        Failed: `key.unsupported`: releases are not signed with keys of this kind.
    """

    def __init__(self, key: HeldKey) -> None:
        self.key: Final = key
        self._algorithm = algorithm_of(key.public_key)

    @property
    def algorithm(self) -> int:
        """The COSE algorithm identifier."""
        return self._algorithm

    @property
    def public_key(self) -> PublicKey:
        """The public half of the key."""
        return self.key.public_key

    def sign(self, message: bytes) -> bytes:
        """Sign `message`; see `fwsign.keys.Signer.sign`."""
        own = algorithms.ALGORITHMS[self._algorithm]
        if not own.digest:
            return sign_message(self.key, Scheme.PURE, message)
        scheme = Scheme.PSS if own.key == "RSA" else Scheme.ECDSA
        return sign_message(self.key, scheme, message, own.digest)


def sign_message(key: HeldKey, scheme: Scheme, message: bytes, digest: str = "") -> bytes:
    """Sign a message of which no more than the digest is needed, by most backends.

    Args:
        key: the key.
        scheme: how; not `Scheme.MU`, which has no message.
        message: what is to be signed, whole.
        digest: the name of the digest that the scheme signs; "" where it has none.

    Raises:
        Failed: as `HeldKey.sign_raw`.
    """
    if isinstance(key, HashingKey):
        return key.sign_message(scheme, message, digest)
    return key.sign_raw(scheme, digest_of(message, digest) if digest else message, digest)


def check_scheme(public: Any, scheme: Scheme) -> None:
    """Refuse a scheme that does not suit a key.

    Args:
        public: the key's public half.
        scheme: how it shall sign.

    Raises:
        Failed: `key.unsupported`.
    """
    if scheme not in _schemes(public):
        raise Failed(
            "key.unsupported",
            f"a key of {cose.key_name(public)} makes no {scheme.value} signatures",
            expected="a key that fits",
            found=cose.key_name(public),
        )


def _schemes(public: Any) -> tuple[Scheme, ...]:
    """Return the schemes that a key can sign with."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        return (Scheme.ECDSA,)
    if isinstance(public, rsa.RSAPublicKey):
        return (Scheme.PSS, Scheme.PKCS1)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return (Scheme.PURE,)
    ml_dsa = cose.key_name(public).startswith("ML-DSA")
    return (Scheme.PURE, Scheme.MU) if ml_dsa else ()


def place_of(signer: Signer, uri: str) -> str:
    """Return the place of a signer's key, without any secret; `uri` is what named it."""
    return signer.key.place if isinstance(signer, HeldSigner) else key_file(uri)


def digest_of(message: bytes, name: str) -> bytes:
    """Return a message's digest; `name` is one of `fwsign.format.cose.HASHES`."""
    hasher = hashes.Hash(cose.HASHES[name])
    hasher.update(message)
    return hasher.finalize()


def mu_of(public: Any, message: bytes) -> bytes:
    """Return ML-DSA's mu of a message, with an empty context: 64 bytes.

    Args:
        public: an ML-DSA key.
        message: what is to be signed, of any length.

    Source: FIPS 204 s.6.2, algorithm 7 line 6; RFC 9881 appendix D.
    """
    from cryptography.hazmat.primitives.asymmetric import mldsa  # old versions lack it

    hasher = mldsa.MLDSAMuHasher(public, b"")
    hasher.update(message)
    return hasher.finalize()
