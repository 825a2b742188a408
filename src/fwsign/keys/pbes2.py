# SPDX-License-Identifier: Apache-2.0
"""Encrypted PKCS#8 with scrypt, written by hand because no library lets us choose the cost."""

import os
from typing import Final

SCRYPT_N: Final = 1 << 14  # from 2^15 on the openssl command refuses for lack of memory
SCRYPT_R: Final = 8  # with N, this is 16 MiB
SCRYPT_P: Final = 5  # and with both, the least that OWASP's password storage page advises
_SALT_SIZE = 16
_KEY_SIZE = 32  # AES-256
_BLOCK_SIZE = 16

_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # 1.2.840.113549.1.5.13, RFC 8018 A.4
_SCRYPT = bytes.fromhex("06092b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11, RFC 7914 s.7
_AES256_CBC = bytes.fromhex("060960864801650304012a")  # 2.16.840.1.101.3.4.1.42, RFC 8018 B.2.5


def encrypt(private_key_info: bytes, passphrase: bytes) -> bytes:
    """Return a DER EncryptedPrivateKeyInfo: PBES2, scrypt N=2^14 r=8 p=5, AES-256-CBC.

    `BestAvailableEncryption` of cryptography always writes PBKDF2 with 2048 rounds, which
    guesses a weak passphrase some hundred times faster.

    Args:
        private_key_info: DER PrivateKeyInfo, unencrypted.
        passphrase: any bytes; takes about 0.15 s and 16 MiB.

    Source: RFC 5958 s.3, RFC 8018 s.6.2, RFC 7914 s.7.
    """
    # Here and not above: who only reads keys needs none of it.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt  # noqa: PLC0415
    from cryptography.hazmat.primitives.padding import PKCS7  # noqa: PLC0415

    salt, iv = os.urandom(_SALT_SIZE), os.urandom(_BLOCK_SIZE)
    kdf = Scrypt(salt=salt, length=_KEY_SIZE, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    padder = PKCS7(8 * _BLOCK_SIZE).padder()
    encryptor = Cipher(algorithms.AES256(kdf.derive(passphrase)), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(private_key_info) + padder.finalize())
    sealed += encryptor.finalize()

    numbers = b"".join(map(_integer, (SCRYPT_N, SCRYPT_R, SCRYPT_P, _KEY_SIZE)))
    derivation = _sequence(_SCRYPT, _sequence(_octets(salt), numbers))
    encryption = _sequence(_AES256_CBC, _octets(iv))
    return _sequence(_sequence(_PBES2, _sequence(derivation, encryption)), _octets(sealed))


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _integer(value: int) -> bytes:
    # X.690 s.8.3: one bit more than the value has, for the sign.
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _octets(content: bytes) -> bytes:
    return _tlv(0x04, content)


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))
