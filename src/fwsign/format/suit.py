# SPDX-License-Identifier: Apache-2.0
"""Encode and decode envelope, manifest and text (draft-ietf-suit-manifest-37, our profile).

SUIT has a command language; we do not interpret it. The decoder reads the values at their places in
our template, writes a manifest from them again, and refuses the input unless the bytes are equal.
"""

import hashlib
import re
from collections.abc import Mapping, Set
from typing import Any, Final, NamedTuple

from fwsign.errors import Malformed, Unsuitable, check_limit
from fwsign.format import cbor, suit_labels
from fwsign.format.algorithms import DIGESTS
from fwsign.format.component import (
    BlockList,
    Component,
    Digest,
    check_block_indexes,
    check_unique,
    check_uri,
    is_inside,
)
from fwsign.format.kinds import check_identifier
from fwsign.format.suit_labels import REPORT, About, Common, Key, Member, Parameter, SuitCommand

MAX_ENVELOPE_SIZE: Final = 32 * 1024 * 1024
"""Bytes; integrated payloads are held in memory, so larger ones stay outside the envelope."""
MAX_BLOCKS: Final = 8
"""Signatures of one envelope; each costs a path validation."""
MAX_COMPONENTS: Final = 256
"""Components and block lists of one release together."""
MAX_SEQUENCE_NUMBER: Final = 2**63 - 1
"""The largest signed 64-bit integer, which a device's database can hold."""
MAX_PAYLOAD_SIZE: Final = 2**48
"""Bytes; larger than any medium."""
MAX_TIME: Final = 253402300799
"""The last second of the year 9999; later years do not fit the calendars of many languages."""
MAX_TEXT_SIZE: Final = 256 * 1024
"""Bytes of the text map."""

MAX_VERSION_PARTS: Final = 10
"""Eight numbers, a pre-release and its count."""

_DIGEST_SIZES: Final = {number: one.size for number, one in DIGESTS.items()}
_VERSION = re.compile(r"(\d{1,9}(?:\.\d{1,9}){0,7})(?:-(alpha|beta|rc)(?:\.(\d{1,9}))?)?", re.ASCII)
_PRE_RELEASE: Final = {"rc": -1, "beta": -2, "alpha": -3}
_NAMESPACE_DNS: Final = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8")


_REQUIRED: Final = frozenset(
    {Key.VERSION, Key.SEQUENCE_NUMBER, Key.COMMON, Key.VALIDATE, Key.INSTALL}
)
_IN_COMMON: Final = frozenset({Common.COMPONENTS, Common.SHARED})


class Manifest(NamedTuple):
    """The signed content.

    `components` are installed. SUIT counts block lists as components too and puts them last; here
    they are separate, so that none can be installed by mistake.
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
    """The text for people; it is signed, and it is the only part that may be cut off."""

    vendor: str
    product: str
    version: str | None = None
    description: str | None = None


class Envelope(NamedTuple):
    """The members of an envelope. The blocks sign `digest`; `blocks` are still opaque."""

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
    # RFC 9562 section 5.5. The module `uuid` would only load `platform` as well.
    made = bytearray(hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    made[6] = made[6] & 0x0F | 0x50  # the version
    made[8] = made[8] & 0x3F | 0x80  # the variant
    return bytes(made)


def version_numbers(version: str) -> tuple[int, ...] | None:
    """Turn "2.4.1-rc.3" into (2, 4, 1, -1, 3); return None for any other form."""
    if not (match := _VERSION.fullmatch(version)):
        return None
    numbers, pre, count = match.groups()
    tail = (_PRE_RELEASE[pre], *([int(count)] if count else [])) if pre else ()
    return (*map(int, numbers.split(".")), *tail)


# --- envelope -------------------------------------------------------------------------------


def decode_envelope(data: bytes) -> Envelope:
    """Decode envelope and authentication wrapper; the rest stays opaque.

    Raises:
        Malformed: `malformed.size`, `malformed.cbor`, `malformed.envelope`.
    """
    check_limit(len(data), MAX_ENVELOPE_SIZE, f"envelope of {len(data)} bytes")
    match cbor.decode(data):
        case cbor.Tag(
            suit_labels.ENVELOPE_TAG,
            {Member.WRAPPER: bytes(wrapper), Member.MANIFEST: bytes(manifest), **rest},
        ):
            members: dict[Any, Any] = {**rest}
        case _:
            raise _bad_envelope("not a tagged SUIT envelope with wrapper and manifest")
    if unknown := [key for key in members if isinstance(key, int) and key not in Member.REGISTERED]:
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
    other = tuple(key for key in members if isinstance(key, int) and key != Member.TEXT)
    text = members.get(Member.TEXT)
    return Envelope(digest, tuple(blocks), manifest, text, integrated, other)


def encode_envelope(envelope: Envelope) -> bytes:
    """Encode an envelope; inverse of `decode_envelope`."""
    members: dict[int | str, bytes] = {
        Member.WRAPPER: cbor.encode((envelope.digest, *envelope.blocks)),
        Member.MANIFEST: envelope.manifest,
    }
    members.update(envelope.integrated)
    if envelope.text is not None:
        members[Member.TEXT] = envelope.text
    return cbor.encode(cbor.Tag(suit_labels.ENVELOPE_TAG, members))


def decode_digest(value: Any) -> Digest:
    """Check a SUIT_Digest array.

    Raises:
        Malformed: `malformed.profile`.
    """
    match value:
        case (int(algorithm), bytes(digest)) if _DIGEST_SIZES.get(algorithm) == len(digest):
            return Digest(algorithm, digest)
    raise _outside("digest is not SHA-256, SHA-384 or SHA-512 of the right size")


def _bad_envelope(message: str) -> Malformed:
    return Malformed("malformed.envelope", message)


# --- manifest -------------------------------------------------------------------------------


def encode_manifest(manifest: Manifest) -> bytes:
    """Fill the template: the short form for one component, the indexed form for several."""
    items: tuple[Component | BlockList, ...] = (*manifest.components, *manifest.block_lists)
    several = len(items) > 1
    ids = {Parameter.VENDOR_ID: manifest.vendor_id, Parameter.CLASS_ID: manifest.class_id}
    checks = (SuitCommand.VENDOR_ID, REPORT, SuitCommand.CLASS_ID, REPORT)
    override = SuitCommand.OVERRIDE_PARAMETERS
    # With several, the identifiers are checked once, for all: set-component-index true.
    shared: list[Any] = [SuitCommand.SET_COMPONENT_INDEX, True, override, ids, *checks] * several
    validate: list[Any] = []
    expiry: list[Any] = []
    fetches: list[list[Any]] = []
    for index, item in enumerate(items):
        select = (SuitCommand.SET_COMPONENT_INDEX, index) if several else ()
        image = {
            Parameter.IMAGE_DIGEST: cbor.encode(item.digest),
            Parameter.IMAGE_SIZE: item.size,
        }
        if several:
            shared += [*select, override, image]
        else:
            shared += [override, {**ids, **image}, *checks]
        if index == 0 and manifest.use_before is not None:
            until = {Parameter.USE_BEFORE: manifest.use_before}
            expiry = [*select, override, until, SuitCommand.USE_BEFORE, REPORT]
        if index < len(manifest.components):  # a device does not keep block lists
            validate += [*select, SuitCommand.IMAGE_MATCH, REPORT]
        fetch = (override, {Parameter.URI: item.uri}, SuitCommand.FETCH, REPORT)
        fetches.append([*select, *fetch, SuitCommand.IMAGE_MATCH, REPORT])
    count = len(manifest.components)
    lists_first = [*fetches[count:], *fetches[:count]]
    install = [*expiry, *(command for fetch in lists_first for command in fetch)]
    common = {
        Common.COMPONENTS: tuple(item.identifier for item in items),
        Common.SHARED: cbor.encode(shared),
    }
    members: dict[int, Any] = {
        Key.VERSION: suit_labels.MANIFEST_VERSION,
        Key.SEQUENCE_NUMBER: manifest.sequence_number,
        Key.COMMON: cbor.encode(common),
        Key.VALIDATE: cbor.encode(validate),
        Key.INSTALL: cbor.encode(install),
    }
    if manifest.version is not None:
        members[Key.SET_VERSION] = cbor.encode(manifest.version)
    if manifest.text_digest is not None:
        members[Key.TEXT] = tuple(manifest.text_digest)
    return cbor.encode(members)


def decode_manifest(data: bytes) -> Manifest:
    """Match a manifest to the template.

    Raises:
        Malformed: `malformed.cbor`, `malformed.profile`, `malformed.component`.
        Unsuitable: `unsuitable.trust-update`.
    """
    members = _map(cbor.decode(data), "manifest", _REQUIRED, {Key.SET_VERSION, Key.TEXT})
    if members[Key.VERSION] != suit_labels.MANIFEST_VERSION:
        raise _outside(f"manifest version {members[Key.VERSION]!r} instead of 1")
    number = _number(members[Key.SEQUENCE_NUMBER], "sequence number", MAX_SEQUENCE_NUMBER)
    common = _map(_inner(members[Key.COMMON], "common"), "common", _IN_COMMON, set())
    identifiers = common[Common.COMPONENTS]
    if not isinstance(identifiers, tuple) or not 1 <= len(identifiers) <= MAX_COMPONENTS:
        raise _outside(f"components are not an array of 1 to {MAX_COMPONENTS}")
    if identifiers == ((b"trust",),):
        raise Unsuitable(
            "unsuitable.trust-update",
            "this is a trust update, not a release",
            expected="a release",
            found="a trust update",
        )
    vendor, klass, images = _shared(
        _inner(common[Common.SHARED], "shared sequence"), len(identifiers)
    )
    use_before, uris = _install(_inner(members[Key.INSTALL], "install sequence"), len(identifiers))
    components, block_lists = _items(identifiers, images, uris)
    version = _inner(members[Key.SET_VERSION], "version") if Key.SET_VERSION in members else None
    if version is not None and not _is_version(version):
        raise _outside("version is not an array of 1 to 10 numbers")
    text_digest = decode_digest(members[Key.TEXT]) if Key.TEXT in members else None
    manifest = Manifest(
        number, vendor, klass, components, use_before, version, text_digest, block_lists
    )
    if encode_manifest(manifest) != data:
        raise _outside("a sequence has commands or parameters that no template has")
    return manifest


def _items(
    identifiers: tuple[Any, ...], images: list[tuple[Digest, int]], uris: list[Any]
) -> tuple[tuple[Component, ...], tuple[BlockList, ...]]:
    """Make components and block lists from the sequences' values, and check each."""
    lists = [index for index, one in enumerate(identifiers) if _is_block_list(one)]
    count = lists[0] if lists else len(identifiers)
    indexes = check_block_indexes(identifiers[count:], count)
    uris = uris[len(indexes) :]  # block lists are fetched first, from fixed uris
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
        case (
            SuitCommand.OVERRIDE_PARAMETERS,
            {Parameter.VENDOR_ID: bytes(vendor), Parameter.CLASS_ID: bytes(klass)} as parameters,
            *_,
        ) if count == 1:
            images = [parameters]
        case (
            SuitCommand.SET_COMPONENT_INDEX,
            True,
            SuitCommand.OVERRIDE_PARAMETERS,
            {Parameter.VENDOR_ID: bytes(vendor), Parameter.CLASS_ID: bytes(klass)},
            SuitCommand.VENDOR_ID,
            _,
            SuitCommand.CLASS_ID,
            _,
            *rest,
        ):
            images = rest[3::4]
        case _:
            raise _outside("the shared sequence matches no template")
    if len(images) != count or len(vendor) != 16 or len(klass) != 16:
        raise _outside("the shared sequence matches no template")
    return vendor, klass, [_image(image) for image in images]


def _image(parameters: Any) -> tuple[Digest, int]:
    match parameters:
        case {Parameter.IMAGE_DIGEST: bytes(digest), Parameter.IMAGE_SIZE: size}:
            return decode_digest(cbor.decode(digest)), _number(size, "size", MAX_PAYLOAD_SIZE)
    raise _outside("a component without image digest or size")


def _install(sequence: Any, count: int) -> tuple[int | None, list[Any]]:
    """Read the use-before time and each component's uri from the install sequence."""
    use_before = None
    match sequence:
        case (
            SuitCommand.OVERRIDE_PARAMETERS,
            {Parameter.USE_BEFORE: time},
            SuitCommand.USE_BEFORE,
            _,
            *rest,
        ) if count == 1:
            use_before, sequence = _number(time, "use-before", MAX_TIME), rest
        case (
            SuitCommand.SET_COMPONENT_INDEX,
            0,
            SuitCommand.OVERRIDE_PARAMETERS,
            {Parameter.USE_BEFORE: time},
            SuitCommand.USE_BEFORE,
            _,
            *rest,
        ) if count > 1:
            use_before, sequence = _number(time, "use-before", MAX_TIME), rest
        case (*_,):
            pass
        case _:
            raise _outside("the install sequence matches no template")
    width, at = (6, 1) if count == 1 else (8, 3)
    found = [part for part in sequence[at::width] if isinstance(part, dict)]
    if len(sequence) != count * width or len(found) != count:
        raise _outside("the install sequence matches no template")
    return use_before, [part.get(Parameter.URI) for part in found]


def _inner(value: Any, what: str) -> Any:
    if not isinstance(value, bytes):
        raise _outside(f"{what} is not a byte string")
    return cbor.decode(value)


def _map(value: Any, what: str, required: Set[int], optional: Set[int]) -> dict[Any, Any]:
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
    about: dict[int, str] = {
        About.MODEL_NAME: text.product,
        About.VENDOR_DOMAIN: text.vendor,
        About.MODEL_INFO: text.product,
    }
    if text.description is not None:
        about[About.DESCRIPTION] = text.description
    if text.version is not None:
        about |= {About.VERSION: text.version, About.CURRENT_VERSION: text.version}
    summary = f"{text.product} {text.version}" if text.version else text.product
    english: dict[Any, Any] = {component.identifier: about for component in components}
    return cbor.encode({"en": {About.SUMMARY: summary, **english}})


def decode_text(data: bytes, manifest: Manifest) -> Text:
    """Match the text to its template and to the manifest; its digest was checked before.

    Raises:
        Malformed: `malformed.cbor`, `malformed.profile`, `malformed.size`.
    """
    check_limit(len(data), MAX_TEXT_SIZE, f"text of {len(data)} bytes")
    about: Any = None
    match cbor.decode(data):
        case {"en": dict(english)}:
            about = english.get(manifest.components[0].identifier)
    match about:
        case {About.VENDOR_DOMAIN: str(vendor), About.MODEL_INFO: str(product)}:
            version, description = about.get(About.VERSION), about.get(About.DESCRIPTION)
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
