# SPDX-License-Identifier: Apache-2.0
"""Digests, and payloads that are checked while they stream."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from fwsign.component import Component, Digest
from fwsign.errors import Failed, Tampered

CHUNK_SIZE: Final = 1024 * 1024
"""Bytes read at a time."""

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


def receive(component: Component, source: Source, sink: Sink | None = None) -> None:
    """Stream a payload from source to sink; it is good only if this returns.

    At most the signed size reaches the sink, and nothing more is read than shows that there is
    more. Commit what the sink took only after this has returned.

    Raises:
        Tampered: `tampered.payload-size`, `tampered.payload-digest`.
        Failed: `io.read`, `io.write`.
    """
    state, left = _HASHES[component.digest.algorithm](), component.size
    while data := _read(component, source, min(CHUNK_SIZE, left + 1)):
        left -= len(data)
        if left < 0:
            raise _wrong_size(component, f"more than {component.size} bytes")
        state.update(data)
        if sink is not None:
            _write(component, sink, data)
    if left:
        raise _wrong_size(component, f"{component.size - left} bytes")
    found = state.digest()
    if found != component.digest.value:
        raise Tampered(
            "tampered.payload-digest",
            f'payload of "{component.name}" has digest {found.hex()}, '
            f"the signed one is {component.digest.value.hex()}",
            step=10,
            expected=component.digest.value.hex(),
            found=found.hex(),
        )


def _wrong_size(component: Component, found: str) -> Tampered:
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
        raise _failed("io.read", "reading", component, error) from error


def _write(component: Component, sink: Sink, data: bytes) -> None:
    try:
        written = sink.write(data)
        if isinstance(written, int) and written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes were taken")
    except OSError as error:
        raise _failed("io.write", "writing", component, error) from error


def _failed(code: str, doing: str, component: Component, error: OSError) -> Failed:
    reason = (error.strerror or str(error)).lower()
    return Failed(
        code, f'{doing} the payload of "{component.name}" failed: {reason}', step=10, found=reason
    )
