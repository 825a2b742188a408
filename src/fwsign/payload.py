# SPDX-License-Identifier: Apache-2.0
"""Digests, and payloads that are checked while they stream."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, Self, final

from fwsign.component import Component, Digest
from fwsign.errors import Code, Failed, FwsignError, Tampered

CHUNK_SIZE: Final = 128 * 1024
"""Bytes of files that are read and hashed at a time, everywhere.

They stay in a core's second-level cache from the copy to the last of the hashes over them, and are
enough that the steps between cost little.
"""

SHA256_SIZE: Final = 32
"""Bytes of a digest in a block list."""

_HASHES: Final[Mapping[int, Callable[[], Any]]] = MappingProxyType(
    {-16: hashlib.sha256, -43: hashlib.sha384, -44: hashlib.sha512}
)


class Source(Protocol):
    """Where a payload comes from: anything with `read`."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        ...


class Sink(Protocol):
    """Where a payload goes: anything with `write`."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`."""
        ...


class Staged(Source, Sink, Protocol):
    """Where a payload stays that arrives in several tries: an open file, for both directions."""

    def seek(self, offset: int, /) -> object:
        """Go to a place, in bytes from the start."""
        ...

    def truncate(self, size: int, /) -> object:
        """Cut off all that is behind the first `size` bytes."""
        ...


class Blocks(NamedTuple):
    """How the payload of a component is cut, and what its blocks are.

    Args:
        size: bytes of each block; the last one may be shorter.
        digests: their SHA-256 digests, one behind the other.
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
    """Hash byte strings, one behind the other, by a COSE hash algorithm."""
    state = _HASHES[algorithm]()
    for part in parts:
        state.update(part)
    return bytes(state.digest())


def measure(source: Source, algorithm: int = -16) -> tuple[Digest, int]:
    """Return digest and size in bytes of all that a source has."""
    state, size = _HASHES[algorithm](), 0
    while data := source.read(CHUNK_SIZE):
        state.update(data)
        size += len(data)
    return Digest(algorithm, state.digest()), size


@final
class Receiving:
    """A payload on its way to a sink, in pieces of any size.

    At most the signed size reaches the sink. With a block list only blocks whose digest is right
    reach it, so what it took up to the first bad one can be kept for a later try (`resume`).
    Whatever it took is good only once `finish` has returned. After an error nothing more is taken:
    every further call raises the same one.

    Args:
        component: what was signed about the payload.
        sink: takes the bytes; without one they are only checked.
        blocks: the component's block list, if it has one.
    """

    def __init__(
        self, component: Component, sink: Sink | None = None, blocks: Blocks | None = None
    ) -> None:
        self._component, self._sink, self._blocks = component, sink, blocks
        self._state = _HASHES[component.digest.algorithm]()
        self._taken = 0
        self._part = bytearray()  # of a block that is not complete; it was not taken yet
        self._failure: FwsignError | None = None

    @classmethod
    def resume(cls, component: Component, file: Staged, blocks: Blocks | None = None) -> Self:
        """Go on where an earlier try ended: rehash what a file holds, and write behind that.

        With a block list the file is cut behind the last good block, else behind the signed size.
        `offset` says where the source has to go on.

        Raises:
            Failed: `io.read`, `io.write`.
        """
        held = cls(component, None, blocks)
        _at(component, file.seek, 0)
        try:
            while data := _read(component, file, min(CHUNK_SIZE, component.size - held.offset)):
                held.feed(data)
        except Tampered:
            held._failure = None  # it is what was held that is bad, and that is cut off
        held._part.clear()
        _at(component, file.seek, held.offset)
        _at(component, file.truncate, held.offset)
        held._sink = file
        return held

    @property
    def offset(self) -> int:
        """Bytes that were taken: where in the payload the next ones are from."""
        return self._taken + len(self._part)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the payload, any number.

        Raises:
            Tampered: `tampered.payload-size`, `tampered.block`.
            Failed: `io.write`.
        """
        self._check_usable()
        data = bytes(data)  # of a buffer that may change: what is checked is what is written
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
        """Take whole blocks, and keep the beginning of the one that is not complete."""
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
    source: Source,
    sink: Sink | None = None,
    blocks: Blocks | None = None,
) -> None:
    """Stream a payload from source to sink; it is good only if this returns.

    At most the signed size reaches the sink, and nothing more is read than shows that there is
    more. With a block list each block is checked before it reaches the sink. Commit what the sink
    took only after this has returned.

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
    """Make the refusal of a payload that has, say, "12 bytes"."""
    return Tampered(
        "tampered.payload-size",
        f'payload of "{component.name}" has {found}, the signed size is {component.size}',
        step=10,
        expected=f"{component.size} bytes",
        found=found,
    )


def _read(component: Component, source: Source, size: int) -> bytes:
    try:
        return source.read(size)
    except OSError as error:
        raise failed("io.read", "reading", component, error) from error


def _write(component: Component, sink: Sink, data: bytes) -> None:
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
    """Make the error of a source or sink that broke while doing something, as in "reading"."""
    reason = (error.strerror or str(error)).lower()
    return Failed(
        code, f'{doing} the payload of "{component.name}" failed: {reason}', step=10, found=reason
    )
