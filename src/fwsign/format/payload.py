# SPDX-License-Identifier: Apache-2.0
"""Digests, and the check of payloads while they stream."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, Self, final

from fwsign.errors import Code, Failed, FwsignError, Tampered
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


@final
class Receiving:
    """A payload on its way to a sink, in pieces of any size.

    At most the signed size reaches the sink. With a block list, only blocks with the right digest
    reach it, so a later try can keep the bytes before the first bad block (`resume`). The payload
    is good only after `finish` has returned. After an error, nothing more is taken: every further
    call raises the same error.

    Args:
        component: the signed facts about the payload.
        sink: takes the bytes; without one they are only checked.
        blocks: the component's block list, if it has one.
    """

    def __init__(
        self, component: Component, sink: PayloadSink | None = None, blocks: Blocks | None = None
    ) -> None:
        self._component, self._sink, self._blocks = component, sink, blocks
        self._state = _HASHES[component.digest.algorithm]()
        self._taken = 0
        self._part = bytearray()  # the beginning of a block, which was not taken yet
        self._failure: FwsignError | None = None

    @classmethod
    def resume(
        cls, component: Component, file: PartialPayload, blocks: Blocks | None = None
    ) -> Self:
        """Go on after an earlier try: rehash the file's content, and write after it.

        With a block list the file is cut after the last good block, else after the signed size.
        The source has to go on at `offset`.

        Raises:
            Failed: `io.read`, `io.write`.
        """
        held = cls(component, None, blocks)
        _at(component, file.seek, 0)
        try:
            while data := _read(component, file, min(CHUNK_SIZE, component.size - held.offset)):
                held.feed(data)
        except Tampered:
            held._failure = None  # the bad bytes were in the file, and are cut off
        held._part.clear()
        _at(component, file.seek, held.offset)
        _at(component, file.truncate, held.offset)
        held._sink = file
        return held

    @property
    def offset(self) -> int:
        """The number of bytes taken, which is the offset of the next byte in the payload."""
        return self._taken + len(self._part)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the payload, any number.

        Raises:
            Tampered: `tampered.payload-size`, `tampered.block`.
            Failed: `io.write`.
        """
        self._check_usable()
        data = bytes(data)  # a copy: the caller's buffer must not change between check and write
        try:
            if len(data) > self._component.size - self.offset:
                found = f"more than {self._component.size} bytes"
                raise wrong_size(self._component, found)
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
            Tampered: `tampered.payload-size`, `tampered.payload-digest`.
        """
        self._check_usable()
        component, found = self._component, self._state.digest()
        if self.offset != component.size:
            raise wrong_size(component, f"{self.offset} bytes")
        if found != component.digest.value:
            raise Tampered(
                "tampered.payload-digest",
                f'payload of "{component.name}" has digest {found.hex()}, '
                f"the signed one is {component.digest.value.hex()}",
                step=10,
                expected=component.digest.value.hex(),
                found=found.hex(),
            )

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _cut(self, blocks: Blocks, data: memoryview) -> None:
        """Take whole blocks, and keep the beginning of an incomplete one."""
        while data:
            whole = min(blocks.size, self._component.size - self._taken)
            wanted = whole - len(self._part)
            piece, data = data[:wanted], data[wanted:]
            if len(piece) < wanted or self._part:
                self._part += piece
                if len(piece) < wanted:
                    return
                piece = memoryview(self._part)
            block = bytes(piece)
            self._part = bytearray()
            blocks.check(self._component, self._taken // blocks.size, block)
            self._take(block)

    def _take(self, data: bytes) -> None:
        self._state.update(data)
        if self._sink is not None:
            _write(self._component, self._sink, data)
        self._taken += len(data)


def receive(
    component: Component,
    source: PayloadSource,
    sink: PayloadSink | None = None,
    blocks: Blocks | None = None,
) -> None:
    """Stream a payload from source to sink; it is good only if this returns.

    At most the signed size reaches the sink, and the source is read only far enough to see that it
    has more. With a block list each block is checked before it reaches the sink. Commit the sink's
    bytes only after this has returned.

    Raises:
        Tampered: `tampered.payload-size`, `tampered.payload-digest`, `tampered.block`.
        Failed: `io.read`, `io.write`.
    """
    receiving = Receiving(component, sink, blocks)
    left = component.size
    while data := _read(component, source, min(CHUNK_SIZE, left + 1)):
        receiving.feed(data)
        left = component.size - receiving.offset
    receiving.finish()


def wrong_size(component: Component, found: str) -> Tampered:
    """Return the refusal of a payload of a wrong size, such as "12 bytes"."""
    return Tampered(
        "tampered.payload-size",
        f'payload of "{component.name}" has {found}, the signed size is {component.size}',
        step=10,
        expected=f"{component.size} bytes",
        found=found,
    )


def _read(component: Component, source: PayloadSource, size: int) -> bytes:
    try:
        return source.read(size)
    except OSError as error:
        raise failed("io.read", "reading", component, error) from error


def _write(component: Component, sink: PayloadSink, data: bytes) -> None:
    try:
        written = sink.write(data)
        if isinstance(written, int) and written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes were taken")
    except OSError as error:
        raise failed("io.write", "writing", component, error) from error


def _at(component: Component, act: Callable[[int], object], offset: int) -> None:
    try:
        act(offset)
    except OSError as error:
        raise failed("io.write", "resuming", component, error) from error


def failed(code: Code, doing: str, component: Component, error: OSError) -> Failed:
    """Return the error of a source or sink that failed while "reading", say."""
    reason = (error.strerror or str(error)).lower()
    return Failed(
        code, f'{doing} the payload of "{component.name}" failed: {reason}', step=10, found=reason
    )
