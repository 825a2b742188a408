# SPDX-License-Identifier: Apache-2.0
"""ML-DSA private keys in the three forms of RFC 9881 section 6: seed, expanded, both.

OpenSSL writes both by default, but cryptography reads only the seed. So this extracts the seed.
"""

import hashlib
from typing import Any, Final

from fwsign.errors import Failed
from fwsign.format.library import ML_DSA, require
from fwsign.keys import asn1
from fwsign.keys.asn1 import sequence_parts

_SEED_SIZE: Final = 32
_SEED_TAG: Final = 0x80  # [0] IMPLICIT OCTET STRING
# By OID: name, the dimensions k and l of FIPS 204 table 1, and the expanded key's size.
_KINDS: Final[dict[str, tuple[str, int, int, int]]] = {
    "2.16.840.1.101.3.4.3.17": ("ML-DSA-44", 4, 4, 2560),
    "2.16.840.1.101.3.4.3.18": ("ML-DSA-65", 6, 5, 4032),
    "2.16.840.1.101.3.4.3.19": ("ML-DSA-87", 8, 7, 4896),
}


def load(private_key_info: bytes, name: object) -> tuple[Any, str] | None:
    """Return an ML-DSA private key and the name of its form; None if it is none.

    Args:
        private_key_info: DER PKCS#8, in clear.
        name: what to call the file in an error.

    Raises:
        Failed: `key.unsupported`: the expanded form alone; `key.format`: damaged, or seed and
            expanded key belong to different keys.
    """
    try:
        _, algorithm, secret, *_ = sequence_parts(private_key_info)
        kind = _KINDS.get(algorithm.parts()[0].oid())
        (choice,) = asn1.elements(secret.content) if kind else (None,)
    except (ValueError, IndexError):
        return None
    if kind is None or choice is None:
        return None
    words, k, l, size = kind  # noqa: E741 - the name in FIPS 204
    make = _type(words)
    if choice.tag == _SEED_TAG and len(choice.content) == _SEED_SIZE:
        return make.from_seed_bytes(choice.content), "seed"
    if choice.tag == asn1.OCTETS:
        raise Failed(
            "key.unsupported",
            f"{name} has an {words} key in expanded form alone, from which no seed can be had",
            expected="a key with its seed",
            found="the expanded key",
        )
    try:
        seed, expanded = (part.content for part in choice.parts())
    except ValueError:
        seed, expanded = b"", b""
    if choice.tag != asn1.SEQUENCE or len(seed) != _SEED_SIZE or len(expanded) != size:
        raise Failed("key.format", f"{name} has a damaged {words} key", found="damaged")
    key = make.from_seed_bytes(seed)
    if not _agree(key.public_key().public_bytes_raw(), seed, expanded, k, l):
        raise Failed(
            "key.format",
            f"{name} has an {words} key whose seed and expanded key belong to different keys",
            expected="the expanded key of the seed",
            found="another",
        )
    return key, "seed and expanded key"


def _type(name: str) -> Any:
    """Return cryptography's type of an ML-DSA private key.

    Raises:
        Failed: `state.library`.
    """
    require(ML_DSA, f"a key of {name}")
    from cryptography.hazmat.primitives.asymmetric import mldsa  # which old versions do not have

    return getattr(mldsa, f"{name.replace('-', '')}PrivateKey")


def _agree(public: bytes, seed: bytes, expanded: bytes, k: int, l: int) -> bool:  # noqa: E741
    """Compare the parts that follow without arithmetic: FIPS 204 algorithms 6 and 24.

    An expanded key is rho, K, tr, s1, s2, t0. The public key, of which tr is the hash, depends on
    s1 and s2. The expanded key itself is never used.
    """
    made = hashlib.shake_256(seed + bytes((k, l))).digest(128)  # rho, rho', K
    tr = hashlib.shake_256(public).digest(64)
    return public[:32] == made[:32] and expanded[:128] == made[:32] + made[96:] + tr
