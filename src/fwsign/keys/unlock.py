# SPDX-License-Identifier: Apache-2.0
"""Load keys with cryptography, with or without a passphrase, and explain every failure."""

import base64
import re
import unicodedata
import warnings
from functools import partial
from typing import Any, Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fwsign.errors import Failed
from fwsign.keys import Passphrase, named, pem
from fwsign.keys.asn1 import sequence_parts
from fwsign.keys.encryption import (
    CLEAR,
    PKCS7_DATA,
    Encryption,
    describe_der,
    describe_encryption,
    openssh_header,
    refuse_excess,
)
from fwsign.keys.public_keys import LOAD_ERRORS, ssh_public_key

MAX_RSA_BITS: Final = 16384
"""Bits of an RSA modulus, as OpenSSL limits them."""

DEK_INFO: Final = b"DEK-Info"  # in keys that OpenSSL encrypted before PKCS#8 existed
_OPENED: Final = ("EC private key is not encoded properly", "Invalid key")
"""Errors of cryptography about a key that it has decrypted."""
_EXPECTED: Final = "PKCS#8, SEC1, PKCS#1, PKCS#12 or OpenSSH"
_UNKNOWN: Final = Encryption("unknown", "unknown", "unknown", None, "low", (), None)


def open_key(
    form: str,
    data: bytes,
    passphrase: Passphrase | None,
    name: object,
    *,
    text: bytes | None = None,
    view: bool = False,
) -> tuple[Any, Any, Encryption | None, str | None]:
    """Open a private key: PKCS#8, SEC1, PKCS#1 or OpenSSH.

    Args:
        form: as in `fwsign.keys.items.FileItem`.
        data: DER, or one PEM block if only the text can be read (OpenSSH, DEK-Info).
        passphrase: called if the key is encrypted.
        name: what to call the file in errors.
        text: the PEM block of the DER, None if there is none; for messages.
        view: whether only the public half is used, so that RSA need not be tested in full.

    Returns:
        The private key, its public key, its encryption, and further remarks. Both keys are None if
        the key is locked and there is no `passphrase`; OpenSSH still gives the public key then.

    Raises:
        Failed: as `fwsign.keys.formats.read_any`.
    """
    encryption = describe_encryption(data)
    if encryption is None and DEK_INFO in data:
        raise no_key(data, name)
    load = _loader(form, data)
    try:
        key = _for_view(load, data) if view else _load(load, data, None)
    except TypeError:  # cryptography raises this for an encrypted key of any form
        encryption = encryption or _UNKNOWN
    except LOAD_ERRORS as error:
        if encryption is None:
            found = _by_hand(data, name)
            if found is None:
                raise no_key(text or data, name) from error
            return found[0], found[0].public_key(), None, found[1]
    else:
        return key, key.public_key(), None, None
    if passphrase is None:
        public = _openssh_public(data) if form == "OpenSSH" else None
        return None, public, encryption, None
    refuse_excess(encryption, name)
    secret = _ask(passphrase, name)
    key, detail = _decrypt(load, data, secret, name)
    return key, key.public_key(), encryption, detail


def open_container(
    data: bytes, passphrase: Passphrase | None, name: object
) -> tuple[Any, Encryption | None]:
    """Open a PKCS#12 file (RFC 7292).

    Returns:
        cryptography's object, and the encryption. The object is None if the file is locked and
        there is no `passphrase` to call; both are None if the file is not PKCS#12.

    Raises:
        Failed: as `fwsign.keys.formats.read_any`.
    """
    if not _is_container(data):
        return None, None
    from cryptography.hazmat.primitives.serialization import pkcs12

    encryption = describe_der(data)
    if passphrase is not None:
        refuse_excess(encryption, name)
    if encryption is None or not encryption.excessive:
        try:  # many programs write an empty passphrase instead of none
            opened = _load(pkcs12.load_pkcs12, data, None)
        except LOAD_ERRORS as error:
            if passphrase is not None:
                _refuse_foreign_key(error, name)
        else:
            if encryption is not None and encryption.cipher == CLEAR:
                encryption = None
            if encryption is not None:
                reasons = ("the passphrase is empty", *encryption.reasons)
                encryption = encryption._replace(verdict="weak", reasons=reasons)
            return opened, encryption
    encryption = encryption or _UNKNOWN
    if passphrase is None:
        return None, encryption
    secret = _ask(passphrase, name)
    try:
        return _load_spelled(pkcs12.load_pkcs12, data, secret), encryption
    except LOAD_ERRORS as error:
        if "password" in str(error) or not _is_text(secret):
            raise _wrong(name) from error
        _refuse_foreign_key(error, name)
        raise Failed(
            "key.format",
            f"{name} is PKCS#12 that cannot be read: {str(error)[:200]}",
            expected="PKCS#12",
            found=str(error)[:200],
        ) from error


def check_rsa(key: rsa.RSAPrivateKey) -> None:
    """Check that the numbers of a key belong together, but not that its primes are prime.

    The test of primes takes 50 ms for RSA-2048. It is not needed if the key itself is not used.

    Raises:
        ValueError: they do not.

    Source: RFC 8017 section 3.2.
    """
    found = key.private_numbers()
    p, q, public = found.p, found.q, found.public_numbers
    if public.n.bit_length() > MAX_RSA_BITS or min(p, q) < 3 or p * q != public.n:
        raise ValueError("the numbers of the RSA key do not belong together")
    if any(found.d * public.e % (prime - 1) != 1 for prime in (p, q)):
        raise ValueError("the exponents of the RSA key do not belong together")


def _for_view(load: Any, data: bytes) -> Any:
    key = _load(partial(load, unsafe_skip_rsa_key_validation=True), data, None)
    if isinstance(key, rsa.RSAPrivateKey):
        check_rsa(key)
    return key


def no_key(data: bytes, name: object) -> Failed:
    """Return the refusal of a file without a private key."""
    foreign = named.foreign(data)
    found = _describe(data) if foreign is None else f"a {foreign.kind} ({foreign.format})"
    return Failed(
        "key.format",
        f"{name} is not a private key that can be read: it is {found}",
        expected=_EXPECTED,
        found=found,
        hint=None if foreign is None else f"convert it first: {foreign.remedy}",
    )


def _load(load: Any, data: bytes, secret: bytes | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(data, secret)


def _load_spelled(load: Any, data: bytes, secret: bytes) -> Any:
    """Load with a passphrase, then with its other spellings; raise the first error."""
    failure: Exception | None = None
    for spelled in spellings(secret):
        try:
            return _load(load, data, spelled)
        except LOAD_ERRORS as error:
            failure = failure or error
    raise failure if failure is not None else AssertionError


def spellings(secret: bytes) -> tuple[bytes, ...]:
    """Return a passphrase, and the same text in the encodings of other systems.

    Keyboards and systems write an accented letter as one character or two (NFC, NFD: Unicode annex
    15). Bytes that are not UTF-8 are read as Latin-1.
    """
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        text = secret.decode("latin-1")
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    both = (unicodedata.normalize(form, text).encode() for form in forms)
    return tuple(dict.fromkeys((secret, *both)))


def _loader(form: str, data: bytes) -> Any:
    if form == "OpenSSH":
        from cryptography.hazmat.primitives.serialization import (
            load_ssh_private_key,
        )

        return load_ssh_private_key
    if data[:1] == b"\x30":
        return serialization.load_der_private_key
    return serialization.load_pem_private_key


def _ask(passphrase: Passphrase, name: object) -> bytes:
    secret = passphrase()
    if secret:
        return secret
    raise Failed(
        "key.passphrase-missing",
        f"{name} is encrypted and no passphrase was given",
        expected="a passphrase",
        found="none",
    )


def _decrypt(load: Any, data: bytes, secret: bytes, name: object) -> tuple[Any, str | None]:
    try:
        return _load_spelled(load, data, secret), None
    except LOAD_ERRORS as error:
        words = str(error).partition(". Please")[0][:200]
        if "bcrypt module" in words:
            raise Failed(
                "key.unsupported",
                f"{name} is an encrypted OpenSSH key, which needs the package bcrypt: "
                "fwsign[ssh] brings it",
                expected="the package bcrypt",
                found="not installed",
            ) from error
        if words.startswith(("Unknown", "Unsupported")) or "unknown cipher" in words:
            raise Failed(
                "key.format",
                f"{name} is encrypted in a way that is not supported: {words}",
                expected="PBES2",
                found=words,
            ) from error
        found = _decrypt_by_hand(data, secret, name)
        if found is None and words.startswith(_OPENED):
            raise Failed(
                "key.format",
                f"{name} opens, but the key in it cannot be read: {words}",
                expected="a key as RFC 5915 has it",
                found=words,
            ) from error
        if found is None:
            raise _wrong(name) from error
        return found


def _decrypt_by_hand(data: bytes, secret: bytes, name: object) -> tuple[Any, str | None] | None:
    from fwsign.keys import pbes2  # only after cryptography failed

    for spelled in spellings(secret):
        try:
            info = pbes2.decrypt(data, spelled)
        except LOAD_ERRORS:
            continue
        if (found := _by_hand(info, name)) is not None:
            return found
    return None


def _by_hand(data: bytes, name: object) -> tuple[Any, str | None] | None:
    from fwsign.keys import pkcs8  # only after cryptography failed

    return pkcs8.load(data, name)


def _openssh_public(data: bytes) -> Any:
    try:
        blob = openssh_header(pem.blocks(data, "the key")[0].content)[3]
    except ValueError:  # pragma: no cover - cryptography has read it before
        return None
    return ssh_public_key(base64.b64encode(blob))


def _is_container(data: bytes) -> bool:
    if data[:2] == b"\x30\x80":  # BER, which is not parsed here
        return data[2:5] == b"\2\1\3"
    try:
        version, content, *_ = sequence_parts(data)
        return version.number() == 3 and content.parts()[0].oid() == PKCS7_DATA
    except (ValueError, IndexError):
        return False


def _refuse_foreign_key(error: Exception, name: object) -> None:
    """Refuse an opened container whose key cannot be read, with a hint what to do."""
    if "Could not deserialize key data" not in str(error):
        return
    raise Failed(
        "key.unsupported",
        f"{name} is PKCS#12 with a key that cannot be read from there, as of ML-DSA",
        expected="RSA, ECDSA or Ed25519 in PKCS#12",
        found="another kind of key",
        hint=f"have openssl 3.5 take it out: openssl pkcs12 -in {name} -noenc -out key.pem",
    ) from error


def _is_text(secret: bytes) -> bool:
    return secret.decode(errors="ignore").encode() == secret


def _wrong(name: object) -> Failed:
    return Failed(
        "key.passphrase",
        f"wrong passphrase for {name}, or the key in it is damaged",
        expected="the passphrase that it was encrypted with",
        found="another",
    )


def _describe(data: bytes) -> str:
    """Describe a file that holds no readable private key."""
    if not data:
        return "empty"
    label = re.search(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----", data)
    if label:
        words = f'PEM "{label[1].decode()}"'
        damaged = ", damaged or of a kind that is not supported"
        return words + damaged if label[1].endswith(b"PRIVATE KEY") else words
    return "DER of another kind" if data[0] == 0x30 else "neither PEM nor DER"
