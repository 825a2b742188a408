# SPDX-License-Identifier: Apache-2.0
"""Encode and decode the manifest (draft-ietf-suit-manifest-37, our profile).

SUIT has a command language; we do not interpret it. The decoder reads the values at their places in
our template, writes a manifest from them again, and refuses the input unless the bytes are equal.
"""

from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from fwsign.errors import Code, Malformed, Unsuitable
from fwsign.format import cbor, suit_labels
from fwsign.format.algorithms import DIGESTS
from fwsign.format.component import (
    BlockList,
    Ciphertext,
    Component,
    Digest,
    is_inside,
    keys_uri,
)
from fwsign.format.items import Item, fetch_of, fetch_order, read_items
from fwsign.format.suit_labels import REPORT, Common, Key, Parameter, SuitCommand
from fwsign.format.version import is_version

MAX_COMPONENTS: Final = 256
"""Components and block lists of one release together."""
MAX_SEQUENCE_NUMBER: Final = 2**53 - 1
"""The largest whole number that every reader of JSON takes exactly: receipts have it (RFC 8785)."""
MAX_PAYLOAD_SIZE: Final = 2**48
"""Bytes; larger than any medium."""
MAX_TIME: Final = 253402300799
"""The last second of the year 9999; later years do not fit the calendars of many languages."""
Kind: TypeAlias = Literal["release", "trust-update", "channel", "permit"]
STATEMENTS: Final[Mapping[Kind, tuple[bytes, ...]]] = MappingProxyType(
    {"trust-update": (b"trust",), "channel": (b"channel",), "permit": (b"permit",)}
)
"""The identifiers of the only component of each statement, its content for fwsign itself."""
_CODES: Final[Mapping[Kind, Code]] = MappingProxyType(
    {
        "release": "unsuitable.release",
        "trust-update": "unsuitable.trust-update",
        "channel": "unsuitable.channel",
        "permit": "unsuitable.permit",
    }
)
"""The refusals of each kind where another was expected."""
_DIGEST_SIZES: Final = {number: one.size for number, one in DIGESTS.items()}

_REQUIRED: Final = frozenset(
    {Key.VERSION, Key.SEQUENCE_NUMBER, Key.COMMON, Key.VALIDATE, Key.INSTALL}
)
_IN_COMMON: Final = frozenset({Common.COMPONENTS, Common.SHARED})


class Manifest(NamedTuple):
    """The signed content.

    `components` are installed. SUIT counts ciphertexts and block lists as components too and puts
    them last; here they are separate, so that none can be installed by mistake.
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
        """The uris of all that is to be inside the envelope: payloads, lists, wrapped keys."""
        items: tuple[Component | BlockList, ...] = (*self.components, *self.block_lists)
        keys = (keys_uri(one.component_index) for one in self.ciphertexts)
        return frozenset((*(item.uri for item in items if is_inside(item.uri)), *keys))

    @property
    def ciphertexts(self) -> tuple[Ciphertext, ...]:
        """The encrypted payloads, in the order of their components."""
        return tuple(
            Ciphertext(index, *one.carried)
            for index, one in enumerate(self.components)
            if one.encrypted
        )


def decode_digest(value: Any) -> Digest:
    """Check a SUIT_Digest array.

    Raises:
        Malformed: `malformed.profile`.
    """
    match value:
        case (int(algorithm), bytes(digest)) if _DIGEST_SIZES.get(algorithm) == len(digest):
            return Digest(algorithm, digest)
    raise outside("digest is not SHA-256, SHA-384 or SHA-512 of the right size")


def encode_manifest(manifest: Manifest) -> bytes:
    """Fill the template: the short form for one component, the indexed form for several."""
    ciphers = manifest.ciphertexts
    items: tuple[Item, ...] = (*manifest.components, *ciphers, *manifest.block_lists)
    several = len(items) > 1
    first = len(manifest.components)
    sources = {one.component_index: at for at, one in enumerate(ciphers, first)}
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
        fetch = (override, *fetch_of(item, manifest.components, sources.get(index)), REPORT)
        fetches.append([*select, *fetch, SuitCommand.IMAGE_MATCH, REPORT])
    order = fetch_order(list(sources), first, len(items))
    install = [*expiry, *(command for index in order for command in fetches[index])]
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


def decode_manifest(data: bytes, *, kind: Kind = "release") -> Manifest:
    """Match a manifest to the template.

    Args:
        data: the manifest.
        kind: what to expect: a release, or a statement, whose uri the caller checks.

    Raises:
        Malformed: `malformed.cbor`, `malformed.profile`, `malformed.component`.
        Unsuitable: `unsuitable.release`, `unsuitable.trust-update`, `unsuitable.channel`,
            `unsuitable.permit`: it is that, and not what was expected.
    """
    members = _map(cbor.decode(data), "manifest", _REQUIRED, {Key.SET_VERSION, Key.TEXT})
    if members[Key.VERSION] != suit_labels.MANIFEST_VERSION:
        raise outside(f"manifest version {members[Key.VERSION]!r} instead of 1")
    number = _number(members[Key.SEQUENCE_NUMBER], "sequence number", MAX_SEQUENCE_NUMBER)
    common = _map(_inner(members[Key.COMMON], "common"), "common", _IN_COMMON, set())
    identifiers = common[Common.COMPONENTS]
    if not isinstance(identifiers, tuple) or not 1 <= len(identifiers) <= MAX_COMPONENTS:
        raise outside(f"components are not an array of 1 to {MAX_COMPONENTS}")
    if (found := kind_of(identifiers)) != kind:
        words, expected = words_of(found), words_of(kind)
        message = f"this is {words}, not {expected}"
        raise Unsuitable(_CODES[found], message, expected=expected, found=words)
    vendor, klass, images = _shared(
        _inner(common[Common.SHARED], "shared sequence"), len(identifiers)
    )
    use_before, fetches = _install(
        _inner(members[Key.INSTALL], "install sequence"), len(identifiers)
    )
    if kind in STATEMENTS:
        components: tuple[Component, ...] = (
            Component(STATEMENTS[kind], *images[0], fetches[0].get(Parameter.URI)),
        )
        block_lists: tuple[BlockList, ...] = ()
    else:
        components, block_lists = read_items(identifiers, images, fetches)
    version = _inner(members[Key.SET_VERSION], "version") if Key.SET_VERSION in members else None
    if version is not None and not is_version(version):
        raise outside("version is not an array of 1 to 10 numbers")
    text_digest = decode_digest(members[Key.TEXT]) if Key.TEXT in members else None
    manifest = Manifest(
        number, vendor, klass, components, use_before, version, text_digest, block_lists
    )
    if encode_manifest(manifest) != data:
        raise outside("a sequence has commands or parameters that no template has")
    return manifest


def kind_in(manifest: bytes) -> Kind | None:
    """Return the kind of a manifest, which may be invalid; None if it is none."""
    try:
        match cbor.decode(manifest):
            case {Key.COMMON: bytes(common)}:
                return kind_of(cbor.decode(common)[Common.COMPONENTS])
    except (Malformed, LookupError, TypeError):
        pass
    return None


def kind_of(identifiers: Any) -> Kind:
    """Return the kind of an envelope with these components."""
    kinds = (kind for kind, own in STATEMENTS.items() if identifiers == (own,))
    return next(kinds, "release")


def words_of(kind: Kind) -> str:
    """Return a kind for people, such as "a trust update"."""
    return f"a {kind.replace('-', ' ')}"


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
            raise outside("the shared sequence matches no template")
    if len(images) != count or len(vendor) != 16 or len(klass) != 16:
        raise outside("the shared sequence matches no template")
    return vendor, klass, [_image(image) for image in images]


def _image(parameters: Any) -> tuple[Digest, int]:
    match parameters:
        case {Parameter.IMAGE_DIGEST: bytes(digest), Parameter.IMAGE_SIZE: size}:
            return decode_digest(cbor.decode(digest)), _number(size, "size", MAX_PAYLOAD_SIZE)
    raise outside("a component without image digest or size")


def _install(sequence: Any, count: int) -> tuple[int | None, list[Any]]:
    """Read the use-before time, and the parameters of each fetch, from the install sequence."""
    if not isinstance(sequence, tuple):
        raise outside("the install sequence matches no template")
    select = (SuitCommand.SET_COMPONENT_INDEX, 0) if count > 1 else ()
    begin, width = len(select), len(select) + 6
    use_before = None
    match sequence[begin:]:
        case (
            SuitCommand.OVERRIDE_PARAMETERS,
            {Parameter.USE_BEFORE: time},
            SuitCommand.USE_BEFORE,
            _,
            *rest,
        ) if sequence[:begin] == select:
            use_before, sequence = _number(time, "use-before", MAX_TIME), rest
    found = [part for part in sequence[begin + 1 :: width] if isinstance(part, dict)]
    if len(sequence) != count * width or len(found) != count:
        raise outside("the install sequence matches no template")
    return use_before, found


def _inner(value: Any, what: str) -> Any:
    if not isinstance(value, bytes):
        raise outside(f"{what} is not a byte string")
    return cbor.decode(value)


def _map(value: Any, what: str, required: Set[int], optional: Set[int]) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise outside(f"{what} is not a map")
    if unknown := value.keys() - required - optional:
        raise outside(f"{what} has key {min(unknown, key=str)}, which the profile does not use")
    if missing := required - value.keys():
        raise outside(f"{what} lacks key {min(missing)}")
    return value


def _number(value: Any, what: str, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise outside(f"{what} is not a number from 0 to {limit}")
    return value


def outside(message: str) -> Malformed:
    """Return the refusal of valid SUIT that no template of this profile has."""
    return Malformed("malformed.profile", f"outside the fwsign profile of SUIT: {message}")
