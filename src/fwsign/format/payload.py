# SPDX-License-Identifier: Apache-2.0
"""Digests, and the check of payloads while they stream."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, Self, final

from fwsign.errors import FwsignError, Tampered
from fwsign.format import streams
from fwsign.format.algorithms import DIGESTS, SHA256
from fwsign.format.component import Component, Digest

CHUNK_SIZE: Final = 128 * 1024
"""Bytes of a file that are read and hashed at a time, everywhere.

A piece stays in a core's second-level cache until its last hash is made, and is large enough that
the steps between pieces cost little.
"""

SHA256_SIZE: Final = DIGESTS[SHA256].size
"""Bytes of a digest in a block list."""

_HASHES: Final[Mapping[int, Callable[[], Any]]] = MappingProxyType(
    {number: getattr(hashlib, one.function) for number, one in DIGESTS.items()}
)


class PayloadSource(Protocol):
    """The source of a payload: anything with `read`."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        ...


class PayloadSink(Protocol):
    """The destination of a payload: anything with `write`."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`."""
        ...


class PartialPayload(PayloadSource, PayloadSink, Protocol):
    """The file of a payload that arrives in several tries, open for reading and writing."""

    def seek(self, offset: int, /) -> object:
        """Go to a place, in bytes from the start."""
        ...

    def truncate(self, size: int, /) -> object:
        """Cut off all bytes after the first `size`."""
        ...


class Cipher(Protocol):
    """The cipher of an encrypted payload; `fwsign.format.ciphertext.BlockCipher` is one."""

    @property
    def size(self) -> int:
        """The bytes of the ciphertext."""

    @property
    def block_size(self) -> int:
        """The bytes of a block of ciphertext; the last one may be shorter."""

    @property
    def step(self) -> int:
        """The bytes of plaintext in a whole block."""

    def more(self, index: int, /) -> bool:
        """Tell whether blocks follow one."""

    def encrypt(self, index: int, plaintext: bytes, /, *, more: bool) -> bytes:
        """Encrypt one block."""

    def decrypt(self, component: Component, index: int, block: bytes, /) -> bytes:
        """Decrypt one block, whose digest was checked.

        Raises:
            Tampered: `tampered.plaintext`.
        """


class Blocks(NamedTuple):
    """The blocks of a component's payload.

    Args:
        size: bytes of each block; the last one may be shorter.
        digests: their SHA-256 digests, one after another.
    """

    size: int
    digests: bytes

    def check(self, component: Component, index: int, block: bytes | memoryview) -> None:
        """Check one whole block.

        Raises:
            Tampered: `tampered.block`.
        """
        expected = self.digests[SHA256_SIZE * index : SHA256_SIZE * (index + 1)]
        found = hashlib.sha256(block).digest()
        if found != expected:
            raise Tampered(
                "tampered.block",
                f'payload of "{component.name}": block {index} of {self.size} bytes, at offset '
                f"{index * self.size}, has digest {found.hex()}, the signed one is "
                f"{expected.hex()}",
                step=10,
                expected=expected.hex(),
                found=found.hex(),
            )


def digest(algorithm: int, *parts: bytes) -> bytes:
    """Hash byte strings, one after another, by a COSE hash algorithm."""
    state = _HASHES[algorithm]()
    for part in parts:
        state.update(part)
    return bytes(state.digest())


def measure(source: PayloadSource, algorithm: int = -16) -> tuple[Digest, int]:
    """Read a whole source; return its digest and its size in bytes."""
    state, size = _HASHES[algorithm](), 0
    while data := source.read(CHUNK_SIZE):
        state.update(data)
        size += len(data)
    return Digest(algorithm, state.digest()), size


class _Whole:
    """A payload as one block, which its signed digest judges."""

    def __init__(self, size: int) -> None:
        self.size = size

    def check(self, component: Component, _index: int, block: bytes | memoryview) -> None:
        """Check the whole payload, as `Blocks.check` checks a block."""
        algorithm, signed = component.carried.digest
        streams.check_digest(component, signed, digest(algorithm, bytes(block)))


@final
class Receiving:
    """A payload on its way to a sink, in pieces of any size.

    At most the signed size reaches the sink. With a block list, only blocks with the right digest
    reach it, so a later try can keep the bytes before the first bad block (`resume`). The payload
    is good only after `finish` has returned. After an error, nothing more is taken: every further
    call raises the same error.

    An encrypted payload is decrypted on the way: each block when its digest is known to be right,
    or all of it if it has no block list. Without a cipher only the ciphertext is checked.

    Args:
        component: the signed facts about the payload.
        sink: takes the bytes; without one they are only checked.
        blocks: the component's block list, if it has one.
        cipher: decrypts the payload if it is encrypted.

    Raises:
        Unsuitable: `unsuitable.recipient`: ciphertext would go to the sink.
    """

    def __init__(
        self,
        component: Component,
        sink: PayloadSink | None = None,
        blocks: Blocks | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        if component.encrypted is not None and cipher is None and sink is not None:
            raise streams.no_cipher(component)
        self._component, self._sink, self._cipher = component, sink, cipher
        self._blocks = blocks if cipher is None else blocks or _Whole(component.carried.size)
        self._state = _HASHES[component.carried.digest.algorithm]()
        self._plain = _HASHES[component.digest.algorithm]() if cipher else None
        self._taken = 0
        self._given = 0  # to the sink; differs from what was taken if that was decrypted
        self._part = bytearray()  # the beginning of a block, which was not taken yet
        self._failure: FwsignError | None = None

    @classmethod
    def resume(
        cls,
        component: Component,
        file: PartialPayload,
        blocks: Blocks | None = None,
        cipher: Cipher | None = None,
    ) -> Self:
        """Go on after an earlier try: rehash the file's content, and write after it.

        With a block list the file is cut after the last good block, else after the signed size.
        The source has to go on at `offset`. What was decrypted is encrypted again, in memory, so
        that the signed digests judge it.

        Raises:
            Failed: `io.read`, `io.write`.
        """
        if component.encrypted is not None and cipher is None:
            raise streams.no_cipher(component)
        held = cls(component, None, blocks, cipher)
        streams.at(component, file.seek, 0)
        try:
            while data := held._again(file):
                held.feed(data)
        except Tampered:
            held._failure = None  # the bad bytes were in the file, and are cut off
        held._part.clear()
        kept = held.offset if cipher is None else held._given
        streams.at(component, file.seek, kept)
        streams.at(component, file.truncate, kept)
        held._sink = file
        return held

    def _again(self, file: PayloadSource) -> bytes:
        """Return the next bytes of the payload, made from those in the file; none at their end."""
        component, cipher = self._component, self._cipher
        if cipher is None:
            return streams.read(component, file.read, min(CHUNK_SIZE, component.size - self.offset))
        wanted = min(cipher.step, component.size - self._given)
        data = streams.read_all(component, file.read, wanted)
        # The block that was being written is fetched again.
        whole = len(data) == wanted and self.offset < cipher.size
        index = self._taken // cipher.block_size
        return cipher.encrypt(index, data, more=cipher.more(index)) if whole else b""

    @property
    def offset(self) -> int:
        """The number of bytes taken, which is the offset of the next byte in the payload."""
        return self._taken + len(self._part)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the payload, any number.

        Raises:
            Tampered: `tampered.payload-size`, `tampered.block`, `tampered.plaintext`.
            Failed: `io.write`.
        """
        self._check_usable()
        data = bytes(data)  # a copy: the caller's buffer must not change between check and write
        size = self._component.carried.size
        try:
            if len(data) > size - self.offset:
                raise streams.wrong_size(self._component, f"more than {size} bytes")
            if self._blocks is None:
                self._take(data)
            else:
                self._cut(self._blocks, memoryview(data))
        except FwsignError as error:
            self._failure = error
            raise

    def finish(self) -> None:
        """End the payload: it is good only if this returns.

        Raises:
            Tampered: `tampered.payload-size`, `tampered.payload-digest`, `tampered.plaintext`.
        """
        self._check_usable()
        component, carried = self._component, self._component.carried
        if self.offset != carried.size:
            raise streams.wrong_size(component, f"{self.offset} bytes")
        streams.check_digest(component, carried.digest.value, self._state.digest())
        if self._plain is not None:
            streams.check_plaintext(component, self._plain.digest())

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _cut(self, blocks: Blocks | _Whole, data: memoryview) -> None:
        """Take whole blocks, and keep the beginning of an incomplete one."""
        while data:
            whole = min(blocks.size, self._component.carried.size - self._taken)
            wanted = whole - len(self._part)
            piece, data = data[:wanted], data[wanted:]
            if len(piece) < wanted or self._part:
                self._part += piece
                if len(piece) < wanted:
                    return
                piece = memoryview(self._part)
            block = bytes(piece)
            self._part = bytearray()
            index = self._taken // blocks.size
            blocks.check(self._component, index, block)
            self._take(block, index)

    def _take(self, data: bytes, index: int = 0) -> None:
        self._state.update(data)
        taken = len(data)
        if self._cipher is not None and self._plain is not None:
            data = self._cipher.decrypt(self._component, index, data)
            self._plain.update(data)
        if self._sink is not None:
            streams.write(self._component, self._sink.write, data)
        self._taken += taken
        self._given += len(data)


def receive(
    component: Component,
    source: PayloadSource,
    sink: PayloadSink | None = None,
    blocks: Blocks | None = None,
    cipher: Cipher | None = None,
) -> None:
    """Stream a payload from source to sink; it is good only if this returns.

    At most the signed size reaches the sink, and the source is read only far enough to see that it
    has more. With a block list each block is checked before it reaches the sink. Commit the sink's
    bytes only after this has returned. Arguments are those of `Receiving`.

    Raises:
        Tampered: `tampered.payload-size`, `tampered.payload-digest`, `tampered.block`,
            `tampered.plaintext`.
        Unsuitable: `unsuitable.recipient`.
        Failed: `io.read`, `io.write`.
    """
    receiving = Receiving(component, sink, blocks, cipher)
    left = component.carried.size
    while data := streams.read(component, source.read, min(CHUNK_SIZE, left + 1)):
        receiving.feed(data)
        left = component.carried.size - receiving.offset
    receiving.finish()
