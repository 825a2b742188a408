# SPDX-License-Identifier: Apache-2.0
"""Envelope, manifest and text to bytes and back (draft-ietf-suit-manifest-37, our profile).

SUIT has a command language; we do not interpret it. A manifest is read where our template has its
values, written again from those values, and refused unless both are the same bytes.
"""

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fwsign import cbor
from fwsign.component import (
    BlockList,
    Component,
    Digest,
    check_block_indexes,
    check_identifier,
    check_unique,
    check_uri,
    is_inside,
)
from fwsign.errors import Malformed, Unsuitable, check_limit

MAX_ENVELOPE_SIZE: Final = 32 * 1024 * 1024
"""Bytes; integrated payloads are held in memory, larger ones belong beside the envelope."""
MAX_BLOCKS: Final = 8
"""Signatures of one envelope; each costs a path validation."""
MAX_COMPONENTS: Final = 256
"""Components and block lists of one release together."""
MAX_SEQUENCE_NUMBER: Final = 2**63 - 1
"""What a device's database can hold in a signed 64-bit integer."""
MAX_PAYLOAD_SIZE: Final = 2**48
"""Bytes; beyond any medium."""
MAX_TIME: Final = 253402300799
"""The last second of the year 9999, where calendars of programming languages end."""
MAX_TEXT_SIZE: Final = 256 * 1024
"""Bytes of the text map."""

MAX_VERSION_PARTS: Final = 10
"""Eight numbers, a pre-release and its count."""

SHA256: Final = -16
DIGEST_SIZES: Final[Mapping[int, int]] = MappingProxyType({-16: 32, -43: 48, -44: 64})
"""COSE hash algorithms accepted (SHA-256, SHA-384, SHA-512) and their sizes in bytes."""

_VERSION = re.compile(r"(\d{1,9}(?:\.\d{1,9}){0,7})(?:-(alpha|beta|rc)(?:\.(\d{1,9}))?)?", re.ASCII)
_PRE_RELEASE: Final = {"rc": -1, "beta": -2, "alpha": -3}
_KNOWN_MEMBERS: Final = frozenset({2, 3, 14, 15, 16, 18, 20, 23})
_NAMESPACE_DNS: Final = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8")
_REPORT: Final = 15  # all four reporting bits


class Manifest(NamedTuple):
    """The signed content.

    `components` is what is installed. SUIT counts block lists as components too, which come behind
    them; here they are apart, so that nothing takes one for something to install.
    """

    sequence_number: int
    vendor_id: bytes
    class_id: bytes
    components: tuple[Component, ...]
    use_before: int | None = None
    version: tuple[int, ...] | None = None
    text_digest: Digest | None = None
    block_lists: tuple[BlockList, ...] = ()

    @property
    def integrated(self) -> frozenset[str]:
        """The uris of all payloads that are to be inside the envelope."""
        items: tuple[Component | BlockList, ...] = (*self.components, *self.block_lists)
        return frozenset(item.uri for item in items if is_inside(item.uri))


class Text(NamedTuple):
    """What people read; signed, and the one part that may be cut off."""

    vendor: str
    product: str
    version: str | None = None
    description: str | None = None


class Envelope(NamedTuple):
    """The members of an envelope. `digest` is what the blocks sign; `blocks` are still opaque."""

    digest: bytes
    blocks: tuple[bytes, ...]
    manifest: bytes
    text: bytes | None
    integrated: Mapping[str, bytes]
    other: tuple[int, ...] = ()


def vendor_id(vendor: str) -> bytes:
    """Derive the vendor identifier: UUID5 of the domain name (section 8.4.8.2), 16 bytes."""
    return _uuid5(_NAMESPACE_DNS, vendor)


def class_id(vendor: str, product: str) -> bytes:
    """Derive the class identifier: UUID5 of the product under the vendor's, 16 bytes."""
    return _uuid5(vendor_id(vendor), product)


def _uuid5(namespace: bytes, name: str) -> bytes:
    # RFC 9562 section 5.5. The module `uuid` would load `platform` with it, to find no more.
    made = bytearray(hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    made[6] = made[6] & 0x0F | 0x50  # the version
    made[8] = made[8] & 0x3F | 0x80  # the variant
    return bytes(made)


def version_numbers(version: str) -> tuple[int, ...] | None:
    """Turn "2.4.1-rc.3" into (2, 4, 1, -1, 3); None where a version is not of that form."""
    if not (match := _VERSION.fullmatch(version)):
        return None
    numbers, pre, count = match.groups()
    tail = (_PRE_RELEASE[pre], *([int(count)] if count else [])) if pre else ()
    return (*map(int, numbers.split(".")), *tail)


# --- envelope -------------------------------------------------------------------------------


def decode_envelope(data: bytes) -> Envelope:
    """Decode envelope and authentication wrapper; all else stays opaque.

    Raises:
        Malformed: `malformed.size`, `malformed.cbor`, `malformed.envelope`.
    """
    check_limit(len(data), MAX_ENVELOPE_SIZE, f"envelope of {len(data)} bytes")
    match cbor.decode(data):
        case cbor.Tag(107, {2: bytes(wrapper), 3: bytes(manifest)} as everything):
            members: dict[Any, Any] = {k: v for k, v in everything.items() if k not in (2, 3)}
        case _:
            raise _bad_envelope("not a tagged SUIT envelope with wrapper and manifest")
    if unknown := [key for key in members if isinstance(key, int) and key not in _KNOWN_MEMBERS]:
        raise _bad_envelope(f"unknown member {unknown[0]}")
    if not all(isinstance(key, (int, str)) for key in members):
        raise _bad_envelope("a member that is neither a number nor a name")
    if odd := [key for key, member in members.items() if not isinstance(member, bytes)]:
        raise _bad_envelope(f"member {odd[0]} is not a byte string")
    match cbor.decode(wrapper):
        case (bytes(digest), *blocks) if all(isinstance(block, bytes) for block in blocks):
            pass
        case _:
            raise _bad_envelope("wrapper is not an array of a digest and blocks, each a bstr")
    check_limit(len(blocks), MAX_BLOCKS, f"{len(blocks)} signatures")
    integrated = {key: value for key, value in members.items() if isinstance(key, str)}
    other = tuple(key for key in members if isinstance(key, int) and key != 23)
    return Envelope(digest, tuple(blocks), manifest, members.get(23), integrated, other)


def encode_envelope(envelope: Envelope) -> bytes:
    """Encode an envelope; inverse of `decode_envelope`."""
    members: dict[int | str, bytes] = {
        2: cbor.encode((envelope.digest, *envelope.blocks)),
        3: envelope.manifest,
    }
    members.update(envelope.integrated)
    if envelope.text is not None:
        members[23] = envelope.text
    return cbor.encode(cbor.Tag(107, members))


def decode_digest(value: Any) -> Digest:
    """Check a SUIT_Digest array.

    Raises:
        Malformed: `malformed.profile`.
    """
    match value:
        case (int(algorithm), bytes(digest)) if DIGEST_SIZES.get(algorithm) == len(digest):
            return Digest(algorithm, digest)
    raise _outside("digest is not SHA-256, SHA-384 or SHA-512 of the right size")


def _bad_envelope(message: str) -> Malformed:
    return Malformed("malformed.envelope", message)


# --- manifest -------------------------------------------------------------------------------


def encode_manifest(manifest: Manifest) -> bytes:
    """Write the template: the single-component form for one, the indexed form for several."""
    items: tuple[Component | BlockList, ...] = (*manifest.components, *manifest.block_lists)
    several = len(items) > 1
    ids = {1: manifest.vendor_id, 2: manifest.class_id}
    shared: list[Any] = [12, True, 20, ids, 1, _REPORT, 2, _REPORT] if several else []
    validate: list[Any] = []
    expiry: list[Any] = []
    fetches: list[list[Any]] = []
    for index, item in enumerate(items):
        select = (12, index) if several else ()
        image = {3: cbor.encode(item.digest), 14: item.size}
        if several:
            shared += [*select, 20, image]
        else:
            shared += [20, {**ids, **image}, 1, _REPORT, 2, _REPORT]
        if index == 0 and manifest.use_before is not None:
            expiry = [*select, 20, {4: manifest.use_before}, 4, _REPORT]
        if index < len(manifest.components):  # a block list is nothing that a device keeps
            validate += [*select, 3, _REPORT]
        fetches.append([*select, 20, {21: item.uri}, 21, _REPORT, 3, _REPORT])
    count = len(manifest.components)
    lists_first = [*fetches[count:], *fetches[:count]]
    install = [*expiry, *(command for fetch in lists_first for command in fetch)]
    identifiers = tuple(item.identifier for item in items)
    members: dict[int, Any] = {
        1: 1,
        2: manifest.sequence_number,
        3: cbor.encode({2: identifiers, 4: cbor.encode(shared)}),
        7: cbor.encode(validate),
        20: cbor.encode(install),
    }
    if manifest.version is not None:
        members[6] = cbor.encode(manifest.version)
    if manifest.text_digest is not None:
        members[23] = tuple(manifest.text_digest)
    return cbor.encode(members)


def decode_manifest(data: bytes) -> Manifest:
    """Match a manifest to the template.

    Raises:
        Malformed: `malformed.cbor`, `malformed.profile`, `malformed.component`.
        Unsuitable: `unsuitable.trust-update`.
    """
    members = _map(cbor.decode(data), "manifest", {1, 2, 3, 7, 20}, {6, 23})
    if members[1] != 1:
        raise _outside(f"manifest version {members[1]!r} instead of 1")
    sequence_number = _number(members[2], "sequence number", MAX_SEQUENCE_NUMBER)
    common = _map(_inner(members[3], "common"), "common", {2, 4}, set())
    identifiers = common[2]
    if not isinstance(identifiers, tuple) or not 1 <= len(identifiers) <= MAX_COMPONENTS:
        raise _outside(f"components are not an array of 1 to {MAX_COMPONENTS}")
    if identifiers == ((b"trust",),):
        raise Unsuitable(
            "unsuitable.trust-update",
            "this is a trust update, not a release",
            expected="a release",
            found="a trust update",
        )
    vendor, klass, images = _shared(_inner(common[4], "shared sequence"), len(identifiers))
    use_before, uris = _install(_inner(members[20], "install sequence"), len(identifiers))
    components, block_lists = _items(identifiers, images, uris)
    version = _inner(members[6], "version") if 6 in members else None
    if version is not None and not _is_version(version):
        raise _outside("version is not an array of 1 to 10 numbers")
    text_digest = decode_digest(members[23]) if 23 in members else None
    manifest = Manifest(
        sequence_number, vendor, klass, components, use_before, version, text_digest, block_lists
    )
    if encode_manifest(manifest) != data:
        raise _outside("a sequence has commands or parameters that no template has")
    return manifest


def _items(
    identifiers: tuple[Any, ...], images: list[tuple[Digest, int]], uris: list[Any]
) -> tuple[tuple[Component, ...], tuple[BlockList, ...]]:
    """Make components and block lists of what the sequences say, each checked."""
    lists = [index for index, one in enumerate(identifiers) if _is_block_list(one)]
    count = lists[0] if lists else len(identifiers)
    indexes = check_block_indexes(identifiers[count:], count)
    uris = uris[len(indexes) :]  # block lists are fetched first, from where they always are
    components = tuple(
        Component(check_identifier(identifier), digest, size, check_uri(uri))
        for identifier, (digest, size), uri in zip(
            identifiers[:count], images[:count], uris, strict=True
        )
    )
    block_lists = tuple(
        BlockList(index, digest, size)
        for index, (digest, size) in zip(indexes, images[count:], strict=True)
    )
    check_unique(components, block_lists)
    return components, block_lists


def _is_block_list(identifier: Any) -> bool:
    return isinstance(identifier, tuple) and identifier[:1] == (b"blocks",)


def _shared(sequence: Any, count: int) -> tuple[bytes, bytes, list[tuple[Digest, int]]]:
    """Read vendor, class and each component's digest and size from the shared sequence."""
    match sequence:
        case (20, {1: bytes(vendor), 2: bytes(klass)} as parameters, *_) if count == 1:
            images = [parameters]
        case (12, True, 20, {1: bytes(vendor), 2: bytes(klass)}, 1, _, 2, _, *rest):
            images = rest[3::4]
        case _:
            raise _outside("the shared sequence matches no template")
    if len(images) != count or len(vendor) != 16 or len(klass) != 16:
        raise _outside("the shared sequence matches no template")
    return vendor, klass, [_image(image) for image in images]


def _image(parameters: Any) -> tuple[Digest, int]:
    match parameters:
        case {3: bytes(digest), 14: size}:
            return decode_digest(cbor.decode(digest)), _number(size, "size", MAX_PAYLOAD_SIZE)
    raise _outside("a component without image digest or size")


def _install(sequence: Any, count: int) -> tuple[int | None, list[Any]]:
    """Read the use-before time and each component's uri from the install sequence."""
    use_before = None
    match sequence:
        case (20, {4: time}, 4, _, *rest) if count == 1:
            use_before, sequence = _number(time, "use-before", MAX_TIME), rest
        case (12, 0, 20, {4: time}, 4, _, *rest) if count > 1:
            use_before, sequence = _number(time, "use-before", MAX_TIME), rest
        case (*_,):
            pass
        case _:
            raise _outside("the install sequence matches no template")
    width, at = (6, 1) if count == 1 else (8, 3)
    found = [part for part in sequence[at::width] if isinstance(part, dict)]
    if len(sequence) != count * width or len(found) != count:
        raise _outside("the install sequence matches no template")
    return use_before, [part.get(21) for part in found]


def _inner(value: Any, what: str) -> Any:
    if not isinstance(value, bytes):
        raise _outside(f"{what} is not a byte string")
    return cbor.decode(value)


def _map(value: Any, what: str, required: set[int], optional: set[int]) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _outside(f"{what} is not a map")
    if unknown := value.keys() - required - optional:
        raise _outside(f"{what} has key {min(unknown, key=str)}, which the profile does not use")
    if missing := required - value.keys():
        raise _outside(f"{what} lacks key {min(missing)}")
    return value


def _number(value: Any, what: str, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise _outside(f"{what} is not a number from 0 to {limit}")
    return value


def _is_version(value: Any) -> bool:
    """Tell whether a value could have come from `version_numbers`."""
    return (
        isinstance(value, tuple)
        and 1 <= len(value) <= MAX_VERSION_PARTS
        and all(isinstance(part, int) and not isinstance(part, bool) for part in value)
        and all(min(_PRE_RELEASE.values()) <= part < 10**9 for part in value)
    )


def _outside(message: str) -> Malformed:
    return Malformed("malformed.profile", f"outside the fwsign profile of SUIT: {message}")


# --- text -----------------------------------------------------------------------------------


def encode_text(text: Text, components: tuple[Component, ...]) -> bytes:
    """Write the text map: a summary, and for each component model, vendor, product, version."""
    about: dict[int, str] = {2: text.product, 3: text.vendor, 4: text.product}
    if text.description is not None:
        about[5] = text.description
    if text.version is not None:
        about |= {6: text.version, 8: text.version}
    summary = f"{text.product} {text.version}" if text.version else text.product
    english: dict[Any, Any] = {component.identifier: about for component in components}
    return cbor.encode({"en": {1: summary, **english}})


def decode_text(data: bytes, manifest: Manifest) -> Text:
    """Match the text to its template and to the manifest, whose digest of it was checked.

    Raises:
        Malformed: `malformed.cbor`, `malformed.profile`, `malformed.size`.
    """
    check_limit(len(data), MAX_TEXT_SIZE, f"text of {len(data)} bytes")
    about: Any = None
    match cbor.decode(data):
        case {"en": dict(english)}:
            about = english.get(manifest.components[0].identifier)
    match about:
        case {3: str(vendor), 4: str(product)}:
            version, description = about.get(6), about.get(5)
        case _:
            raise _outside("the text matches no template")
    if not isinstance(version, str | None) or not isinstance(description, str | None):
        raise _outside("a version or description that is not text")
    text = Text(vendor, product, version, description)
    if encode_text(text, manifest.components) != data:
        raise _outside("the text matches no template")
    derived = (vendor_id(vendor), class_id(vendor, product))
    if derived != (manifest.vendor_id, manifest.class_id):
        raise _outside(f"text says {vendor} {product}, the identifiers are another product's")
    if manifest.version != (version_numbers(text.version) if text.version else None):
        raise _outside(f"text says version {text.version}, the manifest {manifest.version}")
    return text
