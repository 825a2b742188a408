# SPDX-License-Identifier: Apache-2.0
"""Encrypted PKCS#8 with scrypt or PBKDF2, by hand because no library lets us choose the cost."""

import os
from typing import Final

from fwsign.keys.asn1 import Element, integer, octets, sequence, sequence_parts

SCRYPT_N: Final = 1 << 14  # from 2^15 on, the openssl command refuses for lack of memory
SCRYPT_R: Final = 8  # with N, this is 16 MiB
SCRYPT_P: Final = 5  # with N and r, the least that OWASP's password storage page advises
PBKDF2_ITERATIONS: Final = 600_000  # OWASP, for HMAC-SHA-256
_SALT_SIZE = 16
_KEY_SIZE = 32  # AES-256
_BLOCK_SIZE = 16

_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # 1.2.840.113549.1.5.13, RFC 8018 A.4
_SCRYPT = bytes.fromhex("06092b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11, RFC 7914 s.7
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")  # 1.2.840.113549.1.5.12, RFC 8018 A.2
# 1.2.840.113549.2.9 with NULL, RFC 8018 B.1.2
_HMAC_SHA256 = bytes.fromhex("300c06082a864886f70d02090500")
_AES256_CBC = bytes.fromhex("060960864801650304012a")  # 2.16.840.1.101.3.4.1.42, RFC 8018 B.2.5
_3DES: Final = "3DES-CBC"
_KEY_SIZES: Final = {"AES-128-CBC": 16, "AES-192-CBC": 24, "AES-256-CBC": 32, _3DES: 24}
_PKCS12_3DES: Final = "1.2.840.113549.1.12.1.3"  # RFC 7292 appendix C


def encrypt(private_key_info: bytes, passphrase: bytes, kdf: str = "scrypt") -> bytes:
    """Return a DER EncryptedPrivateKeyInfo: PBES2, AES-256-CBC, and a derivation.

    `BestAvailableEncryption` of cryptography always writes PBKDF2 with 2048 rounds, which lets
    an attacker guess a weak passphrase some hundred times faster.

    Args:
        private_key_info: DER PrivateKeyInfo, unencrypted.
        passphrase: any bytes; takes about 0.15 s.
        kdf: "scrypt", N=2^14 r=8 p=5, which takes 16 MiB; or "pbkdf2", HMAC-SHA-256 with 600,000
            iterations, for programs that know no scrypt.

    Source: RFC 5958 s.3, RFC 8018 s.6.2, RFC 7914 s.7.
    """
    # Imported here, since callers that only read keys do not need it.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    salt, iv = os.urandom(_SALT_SIZE), os.urandom(_BLOCK_SIZE)
    key, derivation = (_with_pbkdf2 if kdf == "pbkdf2" else _with_scrypt)(passphrase, salt)
    padder = PKCS7(8 * _BLOCK_SIZE).padder()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(private_key_info) + padder.finalize())
    sealed += encryptor.finalize()

    encryption = sequence(_AES256_CBC, octets(iv))
    return sequence(sequence(_PBES2, sequence(derivation, encryption)), octets(sealed))


def _with_scrypt(passphrase: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Derive a key; return it, and the parameters to derive it again."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    kdf = Scrypt(salt=salt, length=_KEY_SIZE, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    numbers = b"".join(map(integer, (SCRYPT_N, SCRYPT_R, SCRYPT_P, _KEY_SIZE)))
    return kdf.derive(passphrase), sequence(_SCRYPT, sequence(octets(salt), numbers))


def _with_pbkdf2(passphrase: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Derive a key; return it, and the parameters to derive it again."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    kdf = PBKDF2HMAC(SHA256(), _KEY_SIZE, salt, PBKDF2_ITERATIONS)
    parameters = sequence(octets(salt), integer(PBKDF2_ITERATIONS), _HMAC_SHA256)
    return kdf.derive(passphrase), sequence(_PBKDF2, parameters)


def decrypt(data: bytes, passphrase: bytes) -> bytes:
    """Return the PrivateKeyInfo in a DER EncryptedPrivateKeyInfo: AES or 3DES.

    This is for keys that cryptography decrypts but cannot read, such as ML-DSA with its expanded
    key. It supports openssl's defaults: PBES2, and the 3DES of PKCS#12.

    Raises:
        ValueError: wrong passphrase, damage, or another kind of encryption.

    Source: RFC 8018 s.6.2.2, RFC 7292 appendix B and C.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    scheme, sealed = sequence_parts(data)
    kind, parameters = scheme.parts()
    if kind.oid() == _PKCS12_3DES:
        name, key, iv = _3DES, *_derive_pkcs12(parameters, passphrase)
    else:
        name, key, iv = _derive_pbes2(parameters, passphrase)
    if name == _3DES:
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

        cipher = Cipher[modes.CBC](TripleDES(key), modes.CBC(iv))
    else:
        cipher = Cipher(algorithms.AES(key), modes.CBC(iv))
    decryptor, unpadder = cipher.decryptor(), PKCS7(8 * len(iv)).unpadder()
    padded = decryptor.update(sealed.content) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


def _derive_pkcs12(parameters: Element, passphrase: bytes) -> tuple[bytes, bytes]:
    """Return key and IV of 3DES."""
    from fwsign.keys import p12  # only old keys need it

    salt, iterations = parameters.parts()
    made = [
        p12.derive(passphrase, salt.content, "sha1", iterations.number(), use=use, size=size)
        for use, size in ((p12.KEY, 24), (p12.IV, 8))
    ]
    return made[0], made[1]


def _derive_pbes2(parameters: Element, passphrase: bytes) -> tuple[str, bytes, bytes]:
    """Return the name of the cipher, key and IV."""
    from fwsign.keys.encryption import CIPHERS

    derivation, cipher = parameters.parts()
    oid, iv = cipher.parts()
    name = CIPHERS.get(oid.oid(), "")
    if name not in _KEY_SIZES:
        raise ValueError("another cipher than AES or 3DES in CBC mode")
    return name, _derive(derivation.whole, passphrase, _KEY_SIZES[name]), iv.content


def _derive(derivation: bytes, passphrase: bytes, size: int) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    from fwsign.keys.encryption import PBKDF2, PRFS, SCRYPT

    kind, parameters = sequence_parts(derivation)
    salt, *more = parameters.parts()
    if kind.oid() == SCRYPT:
        n, r, p = (one.number() for one in more[:3])
        return Scrypt(salt=salt.content, length=size, n=n, r=r, p=p).derive(passphrase)
    if kind.oid() != PBKDF2:
        raise ValueError("another derivation than scrypt and PBKDF2")
    prf = next((PRFS.get(one.parts()[0].oid(), "") for one in more[1:] if one.tag == 0x30), "SHA1")
    digest = getattr(hashes, prf, None)
    if digest is None:
        raise ValueError("a pseudo-random function that is not known")
    kdf = PBKDF2HMAC(digest(), size, salt.content, more[0].number())
    return kdf.derive(passphrase)
