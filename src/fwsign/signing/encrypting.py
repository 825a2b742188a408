# SPDX-License-Identifier: Apache-2.0
"""Encrypt payloads to groups of devices, while they stream (docs/secret.md)."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from secrets import token_bytes
from typing import NamedTuple, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from fwsign.errors import Failed
from fwsign.format.algorithms import SHA256
from fwsign.format.blocks import MAX_BLOCK_SIZE
from fwsign.format.ciphertext import TAG_SIZE, BlockCipher
from fwsign.format.component import Digest, Encrypted
from fwsign.format.encryption import (
    KEY_SIZE,
    MAX_RECIPIENTS,
    NONCE_SIZE,
    encode_recipients,
    thumbprint,
)
from fwsign.format.key_wrap import wrap
from fwsign.format.payload import CHUNK_SIZE, Blocks, PayloadSink, PayloadSource

Places: TypeAlias = Callable[[str], AbstractContextManager[PayloadSink]]
"""Opens what takes the ciphertext of a name."""


class Encrypting(NamedTuple):
    """To whom payloads are encrypted, and where the ciphertext goes.

    Args:
        keys: the public keys of the groups, on curves that `fwsign.format.key_wrap` knows.
        places: opens what takes each ciphertext that goes beside the envelope.
    """

    keys: tuple[ec.EllipticCurvePublicKey, ...]
    places: Places


class EncryptedPayload(NamedTuple):
    """The facts about an encrypted payload.

    Args:
        image: the digest of the plaintext.
        size: bytes of the plaintext.
        encrypted: the facts about the ciphertext.
        blocks: its block list, None if it is one block.
        wrapped: the wrapped keys, encoded.
    """

    image: Digest
    size: int
    encrypted: Encrypted
    blocks: Blocks | None
    wrapped: bytes


def encrypt(
    source: PayloadSource,
    sink: PayloadSink,
    keys: Sequence[ec.EllipticCurvePublicKey],
    *,
    whole: int = MAX_BLOCK_SIZE,
    block_size: int = 0,
) -> EncryptedPayload:
    """Encrypt a payload with a new key, and wrap that for each group.

    Args:
        source: the plaintext.
        sink: takes the ciphertext.
        keys: the public keys of the groups.
        whole: up to so many bytes, the ciphertext is one block.
        block_size: bytes of a block of a larger ciphertext; 0 refuses one.

    Raises:
        Failed: `state.policy`: too large for one block, or too many groups.
    """
    content_key, nonce = token_bytes(KEY_SIZE), token_bytes(NONCE_SIZE)
    wrapped = wrap_for(content_key, nonce, keys)
    begin = _read(source, whole - TAG_SIZE + 1)
    plain, carried, digests, size = hashlib.sha256(), hashlib.sha256(), bytearray(), 0
    one = len(begin) + TAG_SIZE <= whole
    if not one and not block_size:
        raise Failed(
            "state.policy",
            f"an encrypted payload of more than {whole - TAG_SIZE} bytes needs a block list",
            expected="a block size",
            found="0",
        )
    pieces = iter([(begin, False)]) if one else _pieces(begin, source, block_size - TAG_SIZE)
    step = len(begin) + TAG_SIZE if one else block_size
    cipher = BlockCipher(content_key, nonce, 0, step)
    for index, (piece, more) in enumerate(pieces):
        block = cipher.encrypt(index, piece, more=more)
        plain.update(piece)
        carried.update(block)
        digests += hashlib.sha256(block).digest()
        size += len(piece)
        sink.write(block)
    count = len(digests) // 32
    encrypted = Encrypted(
        Digest(SHA256, carried.digest()), size + count * TAG_SIZE, nonce, thumbprint(content_key)
    )
    blocks = None if one else Blocks(block_size, bytes(digests))
    return EncryptedPayload(Digest(SHA256, plain.digest()), size, encrypted, blocks, wrapped)


def wrap_for(content_key: bytes, nonce: bytes, keys: Sequence[ec.EllipticCurvePublicKey]) -> bytes:
    """Wrap a content key for groups; return the bytes that an envelope has beside the manifest.

    Raises:
        Failed: `state.policy`.
    """
    if not 1 <= len(keys) <= MAX_RECIPIENTS:
        raise Failed(
            "state.policy",
            f"encrypted to {len(keys)} groups, expected 1 to {MAX_RECIPIENTS}",
            expected=f"1 to {MAX_RECIPIENTS}",
            found=len(keys),
        )
    return encode_recipients(nonce, [wrap(content_key, key) for key in keys])


def _pieces(begin: bytes, source: PayloadSource, step: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the plaintext of each block, and whether blocks follow it."""
    held = begin
    while True:
        while len(held) <= step and (more := source.read(max(CHUNK_SIZE, step))):
            held += more
        if len(held) <= step:
            yield held, False
            return
        yield held[:step], True
        held = held[step:]


def _read(source: PayloadSource, size: int) -> bytes:
    parts, left = [], size
    while left and (data := source.read(min(CHUNK_SIZE, left))):
        parts.append(data)
        left -= len(data)
    return b"".join(parts)
