# SPDX-License-Identifier: Apache-2.0
"""Convert keys to the forms of other programs, for `fwsign key convert`."""

from collections.abc import Sequence
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fwsign.errors import Failed
from fwsign.keys import formats, pem

PRIVATE_FORMS: Final = ("pkcs8", "sec1", "pkcs1", "openssh", "p12")
PUBLIC_FORMS: Final = ("public", "public-openssh")
BCRYPT_ROUNDS: Final = 64
"""Rounds of OpenSSH's derivation: 0.6 s; ssh-keygen's default was 16, later 24."""

_NAMES: Final = {
    "sec1": "SEC1",
    "pkcs1": "PKCS#1",
    "openssh": "OpenSSH",
    "p12": "PKCS#12",
    "public-openssh": "OpenSSH",
}
_TRADITIONAL: Final[dict[str, Any]] = {
    "sec1": ec.EllipticCurvePrivateKey,
    "pkcs1": rsa.RSAPrivateKey,
}


def encode_public(key: Any, form: str, *, der: bool = False) -> bytes:
    """Return a public key as SubjectPublicKeyInfo ("public") or OpenSSH's line.

    Args:
        key: cryptography's public key.
        form: one of `PUBLIC_FORMS`.
        der: DER instead of PEM.

    Raises:
        Failed: `key.unsupported`.

    Source: RFC 5280 s.4.1, RFC 4253 s.6.6.
    """
    if form == "public":
        encoding = Encoding.DER if der else Encoding.PEM
        encoded: bytes = key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        return encoded
    _refuse_der(form, der=der)
    try:
        line: bytes = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_such_form(key, form) from error
    return line + b"\n"


def encode_private(
    key: Any,
    form: str,
    passphrase: bytes | None,
    *,
    kdf: str = "scrypt",
    der: bool = False,
    certificates: Sequence[Any] = (),
    legacy: bool = False,
    name: str = "",
) -> bytes:
    """Return a private key in one of `PRIVATE_FORMS`, after reading it back as a check.

    Args:
        key: cryptography's private key.
        form: PKCS#8 is encrypted with `kdf`, OpenSSH with bcrypt, PKCS#12 by
            `fwsign.keys.p12`; SEC1 and PKCS#1 cannot be encrypted.
        passphrase: None leaves the key in clear.
        kdf: one of `fwsign.keys.KDFS`.
        der: DER instead of PEM.
        certificates: for PKCS#12, in any order; the key's own comes first in the file.
        legacy: for PKCS#12, see `fwsign.keys.p12.encode`.
        name: for PKCS#12.

    Raises:
        Failed: `key.unsupported`: this key has no such form, or the package bcrypt is missing;
            `key.mismatch`: no certificate is the key's; `key.passphrase-missing`: an empty one;
            `key.failed`: the result cannot be read.
    """
    if passphrase is not None and not passphrase:
        raise Failed(
            "key.passphrase-missing",
            "the passphrase for the new key is empty",
            expected="at least one octet",
            found="none",
        )
    if form == "pkcs8":
        data = _pkcs8(key, passphrase, kdf, der=der)
    elif form == "p12":
        from fwsign.keys import p12  # other forms do not need it

        ordered = own_first(key, certificates)
        data = p12.encode(key, passphrase, ordered, legacy=legacy, name=name)
    elif form == "openssh":
        _refuse_der(form, der=der)
        data = _openssh(key, passphrase)
    else:
        data = _traditional(key, form, passphrase, der=der)
    _check(data, key, passphrase)
    return data


def own_first(key: Any, certificates: Sequence[Any]) -> list[Any]:
    """Return the certificates with the key's own first; none if there are none.

    Raises:
        Failed: `key.mismatch`.
    """
    public = key.public_key()
    own = [one for one in certificates if one.public_key() == public]
    if certificates and not own:
        raise Failed(
            "key.mismatch",
            "none of the certificates is that of the key",
            expected="a certificate of the key",
            found=", ".join(one.subject.rfc4514_string() for one in certificates)[:200],
        )
    return own[:1] + [one for one in certificates if one not in own[:1]]


def _pkcs8(key: Any, passphrase: bytes | None, kdf: str, *, der: bool) -> bytes:
    plain: bytes = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    label = "PRIVATE KEY"
    if passphrase is not None:
        from fwsign.keys import pbes2  # other forms do not need it

        plain, label = pbes2.encrypt(plain, passphrase, kdf), "ENCRYPTED PRIVATE KEY"
    return plain if der else pem.encode(label, plain)


def _traditional(key: Any, form: str, passphrase: bytes | None, *, der: bool) -> bytes:
    if not isinstance(key, _TRADITIONAL[form]):
        raise _no_such_form(key, form)
    if passphrase is not None:
        raise Failed(
            "key.unsupported",
            f"{_NAMES[form]} is not encrypted: its one way to do so is broken",
            expected="PKCS#8, or no passphrase",
            found="a passphrase",
        )
    encoding = Encoding.DER if der else Encoding.PEM
    encoded: bytes = key.private_bytes(encoding, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return encoded


def _openssh(key: Any, passphrase: bytes | None) -> bytes:
    lock: Any = NoEncryption()
    if passphrase is not None:
        builder = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(BCRYPT_ROUNDS)
        lock = builder.build(passphrase)
    try:
        encoded: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, lock)
    except UnsupportedAlgorithm as error:
        raise Failed(
            "key.unsupported",
            "an encrypted OpenSSH key needs the package bcrypt: fwsign[ssh] brings it",
            expected="the package bcrypt",
            found="not installed",
        ) from error
    except (ValueError, TypeError) as error:
        raise _no_such_form(key, "openssh") from error
    return encoded


def _check(data: bytes, key: Any, passphrase: bytes | None) -> None:
    """Read the new key back: an unreadable key must not replace a readable one."""
    read = formats.read_private_key(data, lambda: passphrase, "the new key")
    if read.public_key() != key.public_key():
        raise Failed(
            "key.failed",
            "the new key does not read back as it was",
            expected="the same key",
            found="another",
        )


def _refuse_der(form: str, *, der: bool) -> None:
    if der:
        raise Failed(
            "key.unsupported",
            f"{_NAMES[form]} keys are text, there is no DER of them",
            expected="PEM",
            found="DER",
        )


def _no_such_form(key: Any, form: str) -> Failed:
    from fwsign.format.cose import key_name  # only for the message

    public = key.public_key() if hasattr(key, "public_key") else key
    return Failed(
        "key.unsupported",
        f"a key of {key_name(public)} has no {_NAMES[form]} form",
        expected={"sec1": "an elliptic curve", "pkcs1": "RSA"}.get(form, "RSA, ECDSA, Ed25519"),
        found=key_name(public),
    )
