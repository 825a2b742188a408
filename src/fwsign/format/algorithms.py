# SPDX-License-Identifier: Apache-2.0
"""The tables of algorithms: digests, kinds of keys, and the signatures that they make.

Each fact stands here alone. A new algorithm is a row of `ALGORITHMS`, and a row of `KEYS` if its
kind of key is new. This module does not import cryptography, so that commands can name algorithms
without its cost.

Source: RFC 9053, 9054, 9864 and 9964 (COSE); RFC 7518, 8037 and 9964 (JOSE); RFC 5758, 8410, 4055
and 9881 (certificates).
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

SHA256: Final = -16
"""The COSE identifier of the digest that fwsign writes."""

Family: TypeAlias = Literal["ECDSA", "RSA", "Ed25519", "ML-DSA"]
"""Keys of a family are made, sign and verify in one way."""
Strength: TypeAlias = Literal["classic", "post-quantum"]
"""Whether signatures withstand quantum computers."""
STRENGTHS: Final[tuple[Strength, ...]] = ("classic", "post-quantum")


class DigestAlgorithm(NamedTuple):
    """A digest: its name for people, and its size in bytes."""

    name: str
    size: int

    @property
    def function(self) -> str:
        """Its name in `hashlib`, as in "sha256"; in capitals, cryptography's."""
        return self.name.replace("-", "").lower()


DIGESTS: Final[Mapping[int, DigestAlgorithm]] = MappingProxyType(
    {
        SHA256: DigestAlgorithm("SHA-256", 32),
        -43: DigestAlgorithm("SHA-384", 48),
        -44: DigestAlgorithm("SHA-512", 64),
    }
)
"""The digests that a manifest may have, by COSE identifier; signatures have no other."""


class NewKeyKind(NamedTuple):
    """A key that fwsign makes.

    Args:
        alg: its name as the value of --alg.
        bits: its size; 0 if keys of its kind have one size.
        tls_alone: whether it is only for TLS servers and clients whose peers take no other.
    """

    alg: str
    bits: int = 0
    tls_alone: bool = False


class KeyKind(NamedTuple):
    """A kind of key.

    Args:
        name: its name for people.
        family: the way in which its keys are made, sign and verify.
        type: module and name in `cryptography.hazmat.primitives.asymmetric`, without the half.
        certificates: the AlgorithmIdentifiers, whole, with which its keys may sign certificates
            and CRLs, by the name of the digest; "" if the algorithm has its own.
        digest: the digest among them that fwsign writes.
        new: the keys of this kind that fwsign makes.
    """

    name: str
    family: Family
    type: str
    certificates: Mapping[str, bytes]
    digest: str = ""
    new: tuple[NewKeyKind, ...] = ()

    @property
    def strength(self) -> "Strength":
        """Whether its signatures withstand quantum computers."""
        return "post-quantum" if self.family == "ML-DSA" else "classic"

    def imported(self, half: Literal["PublicKey", "PrivateKey", ""]) -> Any:
        """Return cryptography's type of one half of a key; without a half, that of its curve.

        It is None if the version that is installed has no such keys.
        """
        module, _, name = self.type.partition(".")
        try:
            asymmetric = import_module(f"cryptography.hazmat.primitives.asymmetric.{module}")
        except ImportError:
            return None
        return getattr(asymmetric, f"{name}{half}", None)


_ECDSA: Final = MappingProxyType(
    {
        "SHA-256": bytes.fromhex("300a06082a8648ce3d040302"),
        "SHA-384": bytes.fromhex("300a06082a8648ce3d040303"),
        "SHA-512": bytes.fromhex("300a06082a8648ce3d040304"),
    }
)
PKCS1: Final = MappingProxyType(
    {
        "SHA-256": bytes.fromhex("300d06092a864886f70d01010b0500"),
        "SHA-384": bytes.fromhex("300d06092a864886f70d01010c0500"),
        "SHA-512": bytes.fromhex("300d06092a864886f70d01010d0500"),
    }
)
"""RSASSA-PKCS1-v1_5, by the name of the digest."""
_ED25519: Final = MappingProxyType({"": bytes.fromhex("300506032b6570")})
_ML_DSA_65: Final = MappingProxyType({"": bytes.fromhex("300b0609608648016503040312")})
_ML_DSA_87: Final = MappingProxyType({"": bytes.fromhex("300b0609608648016503040313")})
_RSA: Final = (
    NewKeyKind("rsa3072", 3072),
    NewKeyKind("rsa4096", 4096),
    NewKeyKind("rsa2048", 2048, True),
)

KEYS: Final = (
    KeyKind("P-256", "ECDSA", "ec.SECP256R1", _ECDSA, "SHA-256", (NewKeyKind("p256"),)),
    KeyKind("P-384", "ECDSA", "ec.SECP384R1", _ECDSA, "SHA-384", (NewKeyKind("p384"),)),
    KeyKind("Ed25519", "Ed25519", "ed25519.Ed25519", _ED25519, "", (NewKeyKind("ed25519"),)),
    KeyKind("RSA", "RSA", "rsa.RSA", PKCS1, "SHA-256", _RSA),
    KeyKind("ML-DSA-65", "ML-DSA", "mldsa.MLDSA65", _ML_DSA_65, "", (NewKeyKind("ml-dsa-65"),)),
    KeyKind("ML-DSA-87", "ML-DSA", "mldsa.MLDSA87", _ML_DSA_87, "", (NewKeyKind("ml-dsa-87"),)),
    KeyKind("P-521", "ECDSA", "ec.SECP521R1", _ECDSA, "SHA-512"),  # in certificates alone
)
"""Kinds of keys that certificates in a path may have; those with an algorithm sign blocks, too."""

NEW_KEYS: Final[Mapping[str, tuple[KeyKind, NewKeyKind]]] = MappingProxyType(
    {new.alg: (kind, new) for kind in KEYS for new in kind.new}
)
"""The keys that fwsign makes, by the values of --alg."""


class Algorithm(NamedTuple):
    """A signature algorithm of COSE.

    Args:
        number: its COSE identifier.
        name: its name in COSE.
        key: the name of the kind of key that it needs.
        digest: the name of the message's digest; "" if the algorithm has its own.
        width: the bytes of r, and of s.
        jose: its name in JOSE, if a JWS may use it.
        written: whether fwsign signs with it, or accepts it only.
    """

    number: int
    name: str
    key: str
    digest: str = ""
    width: int = 0
    jose: str = ""
    written: bool = True


_ROWS: Final = (
    Algorithm(-9, "ESP256", "P-256", "SHA-256", 32, "ES256"),
    Algorithm(-51, "ESP384", "P-384", "SHA-384", 48, "ES384"),
    Algorithm(-19, "Ed25519", "Ed25519", jose="EdDSA"),
    Algorithm(-37, "PS256", "RSA", "SHA-256", jose="PS256"),
    Algorithm(-49, "ML-DSA-65", "ML-DSA-65", jose="ML-DSA-65"),
    Algorithm(-50, "ML-DSA-87", "ML-DSA-87", jose="ML-DSA-87"),
    Algorithm(-7, "ES256", "P-256", "SHA-256", 32, written=False),
)
ALGORITHMS: Final[Mapping[int, Algorithm]] = MappingProxyType({one.number: one for one in _ROWS})
"""The algorithms that a block may have, by COSE identifier."""

BLOCK_KEYS: Final = tuple(dict.fromkeys(one.key for one in _ROWS))
"""Names of the kinds of keys that sign blocks."""
PATH_KEYS: Final = tuple(dict.fromkeys((*BLOCK_KEYS, *(kind.name for kind in KEYS))))
"""Names of the kinds of keys that certificates in a path may have."""
CERTIFICATE_ALGORITHMS: Final[Mapping[bytes, tuple[Family, str]]] = MappingProxyType(
    {
        identifier: (kind.family, digest)
        for kind in KEYS
        for digest, identifier in kind.certificates.items()
    }
)
"""The closed list of AlgorithmIdentifiers in certificates and CRLs: family and digest of each."""


def certificate_algorithms() -> str:
    """Name the algorithms that certificates and CRLs may have, for people."""
    families = dict.fromkeys(CERTIFICATE_ALGORITHMS.values())
    digested = dict.fromkeys(family for family, digest in families if digest)
    own = [family for family, digest in families if not digest]
    return f"SHA-256 or longer with {', '.join([' or '.join(digested), *own])}"
