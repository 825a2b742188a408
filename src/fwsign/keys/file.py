# SPDX-License-Identifier: Apache-2.0
"""Private keys in files: make, write and read them, and sign with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fwsign.errors import Failed
from fwsign.files import read_bytes, write_atomic
from fwsign.format import algorithms, cose, library
from fwsign.format.library import raw_from_der
from fwsign.keys import ALGORITHMS, TLS_ALGORITHMS

if TYPE_CHECKING:
    import os

    from fwsign.keys import Passphrase, PrivateKey, PublicKey

KEY_FILE_LIMIT: Final = 64 * 1024
"""Octets; the PEM of an RSA key of 16384 bits takes 13 thousand."""

MIN_EXPONENT: Final = 65537
"""The least public exponent of RSA keys that sign: FIPS 186-5 appendix A.1.1."""


class FileSigner:
    """Signs with a private key in this process's memory; a `fwsign.keys.Signer`.

    Args:
        key: a key from `load_private_key`.

    Raises:
        Failed: `key.unsupported`.
    """

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._algorithm = algorithm_of(key)

    @property
    def algorithm(self) -> int:
        """The COSE algorithm identifier."""
        return self._algorithm

    @property
    def public_key(self) -> PublicKey:
        """The public half of the key."""
        return self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        """Sign `message`; see `fwsign.keys.Signer.sign`.

        ECDSA is deterministic (RFC 6979): building a release twice gives the same bytes, and a
        poor random generator cannot leak the key.
        """
        own = algorithms.ALGORITHMS[self._algorithm]
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            ecdsa = library.ecdsa(cose.HASHES[own.digest])
            return raw_from_der(self._key.sign(message, ecdsa), own.width)
        if isinstance(self._key, rsa.RSAPrivateKey):
            hashed = cose.HASHES[own.digest]
            return self._key.sign(message, cose.pss(hashed), hashed)
        return self._key.sign(message)


def open_signer(path: str | os.PathLike[str], passphrase: Passphrase) -> FileSigner:
    """Read the key at `path` and make a signer from it; raise like `load_private_key`."""
    return FileSigner(load_private_key(path, passphrase))


def algorithm_of(key: object) -> int:
    """Return the COSE algorithm that a private key signs with.

    Raises:
        Failed: `key.unsupported`, with what was expected and what was found.
    """
    public: Any = key.public_key() if hasattr(key, "public_key") else key
    found = cose.algorithm_for(public)
    if found is None:
        raise Failed(
            "key.unsupported",
            f"cannot sign with a key of {cose.key_name(public)}, expected {cose.key_kinds()}",
            expected=cose.key_kinds(),
            found=cose.key_name(public),
        )
    if isinstance(public, rsa.RSAPublicKey) and public.public_numbers().e < MIN_EXPONENT:
        raise Failed(
            "key.unsupported",
            f"cannot sign with an RSA key of public exponent {public.public_numbers().e}, expected "
            f"{MIN_EXPONENT} or more",
            expected=f"{MIN_EXPONENT} or more",
            found=public.public_numbers().e,
        )
    return found


def load_private_key(path: str | os.PathLike[str], passphrase: Passphrase) -> PrivateKey:
    """Read a private key in any form: PKCS#8, SEC1, PKCS#1, PKCS#12, OpenSSH; as PEM or DER.

    Args:
        path: a file of at most 64 KiB; its content decides its form.
        passphrase: called only if the key is encrypted.

    Raises:
        Failed: `key.passphrase`: wrong; `key.passphrase-missing`: none was given;
            `key.format`: not a private key; `key.unsupported`: of another algorithm; `io.*`.

    Source: RFC 5958, RFC 7468 s.10 and 11, RFC 5915, RFC 8017 A.1.2, RFC 7292.
    """
    path = Path(path)
    data = read_bytes(path, KEY_FILE_LIMIT)
    count = data.count(b"-----BEGIN ")
    load = serialization.load_pem_private_key if count else serialization.load_der_private_key
    try:
        if count > 1:
            raise ValueError("perhaps more than one key")
        key: object = load(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        # The key is encrypted, in another form, or not alone: this takes more code and more time.
        from fwsign.keys import formats  # most keys in CI are plain PKCS#8

        key = formats.read_private_key(data, passphrase, path)
    algorithm_of(key)
    return cast("PrivateKey", key)


def encode_private_key(key: PrivateKey, passphrase: bytes | None, kdf: str = "scrypt") -> bytes:
    """Return a key as PEM PKCS#8; `fwsign.keys.pbes2` encrypts it if there is a passphrase.

    Args:
        key: what to write.
        passphrase: None writes the key in clear, for every reader of the file.
        kdf: one of `fwsign.keys.KDFS`.

    Raises:
        Failed: `key.passphrase-missing`: the passphrase is empty.

    Source: RFC 7468 s.10 and 11. Never `BestAvailableEncryption`: see `fwsign.keys.pbes2`.
    """
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    if passphrase is None:
        return key.private_bytes(serialization.Encoding.PEM, form, plain)
    if not passphrase:
        raise Failed(
            "key.passphrase-missing",
            "the passphrase for the new key is empty",
            expected="at least one octet",
            found="none",
        )
    from fwsign.keys import pbes2, pem  # signing never writes a key

    der = pbes2.encrypt(
        key.private_bytes(serialization.Encoding.DER, form, plain),
        passphrase,
        kdf,
    )
    return pem.encode("ENCRYPTED PRIVATE KEY", der)


def write_private_key(
    path: Path,
    key: PrivateKey,
    passphrase: bytes | None,
    kdf: str = "scrypt",
    *,
    overwrite: bool = False,
) -> None:
    """Write a key in the form of `encode_private_key`; only its owner can read the file.

    Raises:
        Failed: `key.passphrase-missing`, `io.*`.
    """
    write_atomic(path, encode_private_key(key, passphrase, kdf), overwrite=overwrite, mode=0o600)


def new_private_key(alg: str, *, tls: bool = False) -> PrivateKey:
    """Make a private key.

    Args:
        alg: one of `fwsign.keys.ALGORITHMS`.
        tls: the key is for TLS: `alg` is one of `fwsign.keys.TLS_ALGORITHMS`.

    Raises:
        Failed: `key.unsupported`.
    """
    if alg not in (TLS_ALGORITHMS if tls else ALGORITHMS):
        expected = ", ".join(ALGORITHMS)
        raise Failed(
            "key.unsupported",
            f'no key algorithm "{alg}", there are {expected}',
            expected=expected,
            found=alg,
        )
    kind, new = algorithms.NEW_KEYS[alg]
    if kind.family == "ECDSA":
        return ec.generate_private_key(kind.imported("")())
    if kind.family == "RSA":
        return rsa.generate_private_key(MIN_EXPONENT, new.bits)
    if kind.family == "ML-DSA":
        library.require(library.ML_DSA, f"a key of {kind.name}")
    return cast("PrivateKey", kind.imported("PrivateKey").generate())
