# SPDX-License-Identifier: Apache-2.0
"""Ciphertext in blocks: each is AES-256-GCM with a nonce of its own, and ends with its tag.

Block `i` has the signed nonce, XORed with `i` in the four bytes before the last one, and with 1 in
the last byte if more blocks follow. So a block that was moved, and a payload that was cut off
between two blocks, do not open. A payload of one block is plain COSE_Encrypt.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fwsign.errors import Tampered
from fwsign.format.component import Component
from fwsign.format.encryption import additional_data

TAG_SIZE: Final = 16


def ciphertext_size(size: int, block_size: int) -> int:
    """Return the bytes of the ciphertext of a payload.

    Args:
        size: bytes of the plaintext.
        block_size: bytes of a block of ciphertext; 0 for one block.
    """
    count = max(1, -(-size // (block_size - TAG_SIZE))) if block_size else 1
    return size + count * TAG_SIZE


class BlockCipher:
    """Encrypts and decrypts the blocks of one payload. Its key never shows.

    Args:
        content_key: 32 bytes, used for no other payload.
        nonce: 12 bytes.
        size: bytes of the ciphertext.
        block_size: bytes of a block of ciphertext; its size if it is one block.
    """

    __slots__ = ("_cipher", "_nonce", "block_size", "size")

    def __init__(self, content_key: bytes, nonce: bytes, size: int, block_size: int) -> None:
        self._cipher = AESGCM(content_key)
        self._nonce = int.from_bytes(nonce, "big")
        self.size, self.block_size = size, block_size

    @property
    def step(self) -> int:
        """The bytes of plaintext in a whole block."""
        return self.block_size - TAG_SIZE

    def more(self, index: int) -> bool:
        """Tell whether blocks follow this one."""
        return (index + 1) * self.block_size < self.size

    def encrypt(self, index: int, plaintext: bytes, *, more: bool) -> bytes:
        """Encrypt one block.

        Args:
            index: its number, from 0.
            plaintext: its content.
            more: whether blocks follow it.
        """
        return self._cipher.encrypt(self._nonce_of(index, more), plaintext, additional_data())

    def decrypt(self, component: Component, index: int, block: bytes) -> bytes:
        """Decrypt one block, whose digest was checked.

        Raises:
            Tampered: `tampered.plaintext`.
        """
        try:
            return self._cipher.decrypt(
                self._nonce_of(index, self.more(index)), block, additional_data()
            )
        except InvalidTag:
            raise Tampered(
                "tampered.plaintext",
                f'payload of "{component.name}": block {index} does not decrypt with the signed '
                "key and nonce",
                step=10,
            ) from None

    def _nonce_of(self, index: int, more: bool) -> bytes:
        # The block list, inside an envelope, has room for fewer blocks than four bytes count.
        return (self._nonce ^ (index << 8 | more)).to_bytes(12, "big")
