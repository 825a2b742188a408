# SPDX-License-Identifier: Apache-2.0
"""From files to the manifest that describes them."""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from fwsign import cbor, suit
from fwsign.atomic import io_error
from fwsign.component import (
    Component,
    Digest,
    check_identifier,
    check_name,
    check_unique,
    check_uri,
)
from fwsign.errors import Failed
from fwsign.payload import CHUNK_SIZE, Source, digest, measure

MAX_EMBEDDED_SIZE: Final = 16 * 1024 * 1024
"""Bytes of one payload inside an envelope: the largest flash of the boards that we know."""


class Part(NamedTuple):
    """A file of a release and the component it becomes.

    Args:
        path: the payload's file; its name is signed.
        identifier: where the bytes go; see `fwsign.component`.
    """

    path: Path
    identifier: tuple[bytes, ...]


Opener: TypeAlias = Callable[[Path], AbstractContextManager[Source]]
"""Opens a payload for reading."""


class Release(NamedTuple):
    """A release ready to be signed."""

    manifest: suit.Manifest
    text: bytes
    integrated: Mapping[str, bytes]


def describe(
    parts: Sequence[Part],
    text: suit.Text,
    *,
    sequence_number: int,
    use_before: int | None = None,
    embed: bool = False,
    base_url: str = "",
    opener: Opener = lambda path: path.open("rb"),
) -> Release:
    """Hash files and describe them.

    Args:
        parts: one or more; their file names must differ in more than case.
        text: vendor, product, version and description.
        sequence_number: 0 to 2**63 - 1; devices refuse lower ones than they have seen.
        use_before: Unix time in seconds after which devices refuse the release.
        embed: put the payloads into the envelope, at most 16 MiB each.
        base_url: put before each name, for payloads that are fetched from there.
        opener: opens each file; for a progress bar.

    Raises:
        Malformed: `malformed.component`.
        Failed: `io.*`, `state.policy`.
    """
    if not 1 <= len(parts) <= suit.MAX_COMPONENTS:
        raise Failed("state.policy", f"a release of {len(parts)} files, expected 1 to 256")
    for name, number, limit in (
        ("sequence number", sequence_number, suit.MAX_SEQUENCE_NUMBER),
        ("time of expiry", use_before or 0, suit.MAX_TIME),
    ):
        if not 0 <= number <= limit:
            raise Failed("state.policy", f"{name} {number}, expected 0 to {limit}")
    integrated: dict[str, bytes] = {}
    components = []
    for part in parts:
        check_identifier(part.identifier)
        name = check_name(part.path.name)
        uri = check_uri(f"#{name}" if embed else base_url + name)
        component, data = _measure(part, uri, opener, embed=embed)
        components.append(component)
        if embed:
            integrated[uri] = data
    check_unique(tuple(components))
    encoded_text = suit.encode_text(text, tuple(components))
    head = cbor.byte_string_head(len(encoded_text))
    manifest = suit.Manifest(
        sequence_number,
        suit.vendor_id(text.vendor),
        suit.class_id(text.vendor, text.product),
        tuple(components),
        use_before,
        suit.version_numbers(text.version) if text.version else None,
        Digest(suit.SHA256, digest(suit.SHA256, head, encoded_text)),
    )
    return Release(manifest, encoded_text, integrated)


def _measure(part: Part, uri: str, opener: Opener, *, embed: bool) -> tuple[Component, bytes]:
    """Hash a file, and load it where it goes inside the envelope."""
    data = b""
    try:
        with opener(part.path) as source:
            if embed:
                data = _load(part.path, source)
            image, size = measure(io.BytesIO(data) if embed else source)
    except OSError as error:
        raise io_error(error, part.path) from error
    return Component(part.identifier, image, size, uri), data


def _load(path: Path, source: Source) -> bytes:
    data = b"".join(iter(lambda: source.read(CHUNK_SIZE), b""))
    if len(data) > MAX_EMBEDDED_SIZE:
        raise Failed(
            "io.format",
            f"{path} has {len(data)} bytes, at most {MAX_EMBEDDED_SIZE} fit into an envelope",
            expected=f"at most {MAX_EMBEDDED_SIZE} bytes",
            found=len(data),
        )
    return data
