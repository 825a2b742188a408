"""Fixed keys and signatures, so that the vectors are the same bytes each time. NOT FOR PRODUCTION.

Every key and serial number comes from the name of the vector, or of the thing that vectors share,
and a count. Whoever reads this file has the private keys; nobody may trust them.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa

import support
from fwsign.errors import FwsignError
from fwsign.format.algorithms import ALGORITHMS
from fwsign.format.cose import decode_block, verify_signature
from fwsign.format.envelope import decode_envelope
from fwsign.keys.file import FileSigner
from support import der, parts, tlv
from testkit.read import Bytes

SEED = "fwsign test vectors, NOT FOR PRODUCTION"
Made = TypeVar("Made")

_scope: tuple[str, Iterator[int]] | None = None


@contextmanager
def scope(label: str) -> Iterator[None]:
    """Take keys and serial numbers from a label, counted from 0, so that vectors do not mix."""
    global _scope  # noqa: PLW0603 one process makes the vectors, in one thread
    before, _scope = _scope, (label, itertools.count())
    try:
        yield
    finally:
        _scope = before


def shared(make: Callable[..., Made]) -> Callable[..., Made]:
    """Make a thing once for every vector, from its own name, whoever asks for it first."""

    @cache
    @wraps(make)
    def once(*names: str) -> Made:
        with scope(".".join((make.__module__, make.__name__, *names))):
            return make(*names)

    return once


def chance(size: int, what: str) -> bytes:
    """Return the next `size` bytes of the scope."""
    if _scope is None:
        raise AssertionError(f"a {what} that belongs to no vector")
    label, count = _scope
    return hashlib.shake_256(f"{SEED}: {label}, {what} {next(count)}".encode()).digest(size)


def install() -> None:
    """Let `support` make fixed keys, serial numbers and signatures, in this process for good."""
    for owner, name, own in (
        (support, "new_key", new_key),
        (support, "sign_builder", sign_builder),
        (FileSigner, "sign", sign),
        (x509, "random_serial_number", lambda: 1 + chance_number(158, "serial")),
    ):
        mock.patch.object(owner, name, own).start()


def chance_number(bits: int, what: str) -> int:
    """Return the next number of so many bits."""
    return int.from_bytes(chance((bits + 7) // 8, what), "big") >> (-bits % 8)


# --- keys -----------------------------------------------------------------------------------


def new_key(alg: str = "p256") -> Any:
    """Make the next key of a kind, as `support.new_key` does by chance."""
    curves: dict[str, ec.EllipticCurve] = {
        "p256": ec.SECP256R1(),
        "p384": ec.SECP384R1(),
        "p521": ec.SECP521R1(),
        "secp256k1": ec.SECP256K1(),
    }
    if curve := curves.get(alg):
        return ec.derive_private_key(1 + chance_number(curve.key_size - 1, alg), curve)
    if alg.startswith("rsa"):
        return rsa_key(int(alg[3:]))
    seeds: dict[str, tuple[int, Callable[[bytes], Any]]] = {
        "ed25519": (32, ed25519.Ed25519PrivateKey.from_private_bytes),
        "ed448": (57, ed448.Ed448PrivateKey.from_private_bytes),
        "ml-dsa-44": (32, mldsa.MLDSA44PrivateKey.from_seed_bytes),
        "ml-dsa-65": (32, mldsa.MLDSA65PrivateKey.from_seed_bytes),
        "ml-dsa-87": (32, mldsa.MLDSA87PrivateKey.from_seed_bytes),
    }
    size, make = seeds[alg]
    return make(chance(size, alg))


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """Return the one RSA key of a size."""
    with scope(f"rsa{bits}"):
        p, q = (prime(bits // 2) for _ in range(2))
    public = rsa.RSAPublicNumbers(65537, p * q)
    d = pow(public.e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key()


def prime(bits: int) -> int:
    """Return the first prime above a number of so many bits, of which two make a full modulus."""
    found = chance_number(bits, "prime") | 3 << (bits - 2) | 1
    small = [one for one in range(3, 2000, 2) if all(one % two for two in range(3, one, 2))]
    while any(found % one == 0 for one in small) or pow(2, found - 1, found) != 1:
        found += 2
    return found


# --- signatures that are by chance ----------------------------------------------------------


PUBLISHED = Path(__file__).parents[2] / "vectors"
_chosen = FileSigner.sign


@cache
def published() -> tuple[bytes, ...]:
    """Return every signature in the published vectors that are accepted: of blocks, certificates
    and CRLs.
    """
    found: dict[bytes, None] = {}
    read = Bytes(PUBLISHED)
    for path in sorted(PUBLISHED.glob("release/*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["expected"]["verdict"] != "accepted":
            continue
        certificates = [one["certificate"] for one in document["anchors"] if "certificate" in one]
        signed: list[Any] = [x509.load_der_x509_certificate(read(one)) for one in certificates]
        for encoded in decode_envelope(read(document["envelope"])).blocks:
            block = decode_block(encoded)
            signed += [block, *map(x509.load_der_x509_certificate, block.chain)]
            signed += map(x509.load_der_x509_crl, block.crls)
        found.update(dict.fromkeys(one.signature for one in signed))
    return tuple(found)


def kept(key: Any, algorithm: int, message: bytes) -> bytes | None:
    """Return a published signature of this key over this message, if there is one."""
    for signature in published():
        try:
            verify_signature(algorithm, key.public_key(), message, signature)
        except FwsignError:
            continue
        return signature
    return None


def sign(signer: FileSigner, message: bytes) -> bytes:
    """Sign as `FileSigner` does; where that is by chance, keep the signature that is published."""
    name = ALGORITHMS[signer.algorithm].name
    by_chance = name.startswith(("PS", "ML-DSA"))  # FIPS 186-5 section 5.4, FIPS 204 section 3.4
    found = kept(signer._key, signer.algorithm, message) if by_chance else None
    return found or _chosen(signer, message)


_build = support.sign_builder


def sign_builder(builder: Any, key: Any, algorithm: Any) -> Any:
    """Sign a certificate or CRL; under ML-DSA, keep the signature that is published."""
    made = _build(builder, key, algorithm)
    if not isinstance(key, (mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey)):
        return made
    tbs, identifier, _ = parts(der(made))
    signature = kept(key, FileSigner(key).algorithm, tbs)
    if signature is None:
        return made
    again = tlv(0x30, tbs, identifier, tlv(3, b"\0", signature))
    if isinstance(made, x509.Certificate):
        return x509.load_der_x509_certificate(again)
    return x509.load_der_x509_crl(again)
