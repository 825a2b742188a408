# SPDX-License-Identifier: Apache-2.0
"""Components of a release: their places, their digests, and the uris of their payloads."""

import re
from typing import Any, Final, NamedTuple

from fwsign.errors import Malformed
from fwsign.format.kinds import (
    KINDS,
    FlashPlace,
    Kind,
    check_name,
    flash_place,
    name_of,
    refused,
)

MAX_URI_LENGTH: Final = 2048
"""Characters; HTTP servers commonly take as many."""
ENCRYPTED: Final = ".enc"
"""The end of the name of a ciphertext's file."""

_WORDS: Final = {"blocks": "block list", "encrypted": "ciphertext"}
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")


class Digest(NamedTuple):
    """A SUIT_Digest: COSE hash algorithm and value."""

    algorithm: int
    value: bytes


class BlockList(NamedTuple):
    """The digests of a component's blocks, which the manifest names as a payload of their own.

    It is never installed. A receiver checks the payload of the component at `component_index` by
    it, block by block.
    """

    component_index: int
    digest: Digest
    size: int

    @property
    def identifier(self) -> tuple[bytes, ...]:
        """['blocks', INDEX], with the index of the component that it describes."""
        return (b"blocks", bytes([self.component_index]))

    @property
    def uri(self) -> str:
        """The list's uri, which is always inside the envelope."""
        return f"#blocks-{self.component_index}"


class Carried(NamedTuple):
    """The bytes of a payload as they are stored and sent: those at its uri."""

    digest: Digest
    size: int


class Encrypted(NamedTuple):
    """The signed facts about a payload that is stored and sent encrypted.

    Args:
        digest: the digest of the ciphertext.
        size: bytes of the ciphertext.
        nonce: the nonce of its blocks; see `fwsign.format.ciphertext`.
        key_digest: the thumbprint of the content key; see `fwsign.format.encryption`.
    """

    digest: Digest
    size: int
    nonce: bytes
    key_digest: bytes


class Component(NamedTuple):
    """One thing to be installed: its identifier, image digest, size in bytes and payload uri.

    Digest and size are those of the bytes that are installed; `carried` has those of the bytes at
    the uri, which differ if the payload is encrypted.
    """

    identifier: tuple[bytes, ...]
    digest: Digest
    size: int
    uri: str
    encrypted: Encrypted | None = None

    @property
    def carried(self) -> Carried:
        """Digest and size of the bytes at its uri: the ciphertext's if it is encrypted."""
        one = self.encrypted or self
        return Carried(one.digest, one.size)

    @property
    def plain(self) -> "Component":
        """The same, for bytes that were decrypted: they are judged by their own digest."""
        return self._replace(encrypted=None)

    @property
    def kind(self) -> Kind:
        """The kind of component that it is."""
        return KINDS[self.identifier[0]]

    @property
    def name(self) -> str:
        """The component's name for people: a file name, or `esp32c3@0x10000`."""
        return name_of(self.identifier)

    @property
    def flash(self) -> FlashPlace | None:
        """The place in flash where it goes; None for another kind of component."""
        return flash_place(self.identifier)

    @property
    def payload_name(self) -> str:
        """The name of its payload's file: the end of the uri, else made of the component's name."""
        own = self.name if self.encrypted is None else f"{self.name}{ENCRYPTED}"
        return stored_name(self.uri, own)


class Ciphertext(NamedTuple):
    """The encrypted payload of a component, which SUIT counts as a component of its own.

    It is fetched and checked, and then decrypted into the component at `component_index`. It is
    never installed itself.
    """

    component_index: int
    digest: Digest
    size: int

    @property
    def identifier(self) -> tuple[bytes, ...]:
        """['encrypted', INDEX], with the index of the component that it becomes."""
        return (b"encrypted", bytes([self.component_index]))


def stored_name(uri: str, otherwise: str) -> str:
    """Return the name of a payload's file: the end of its uri, if that is a name."""
    try:
        return check_name(uri.removeprefix("#").rpartition("/")[2])
    except Malformed:  # the uri ends in a query, say, or in nothing
        return otherwise


def keys_uri(index: int) -> str:
    """Return the uri of the wrapped keys of a component, which are always inside the envelope."""
    return f"#encryption-{index}"


def check_indexes(word: str, identifiers: tuple[Any, ...], count: int) -> list[int]:
    """Check the identifiers of block lists or ciphertexts; return the indexes of their components.

    Args:
        word: `blocks` or `encrypted`.
        identifiers: each must be [word, INDEX], with the indexes in ascending order.
        count: number of components.

    Raises:
        Malformed: `malformed.component`.
    """
    indexes: list[int] = []
    what = _WORDS[word]
    for identifier in identifiers:
        match identifier:
            case (bytes(kind), bytes(index)) if kind == word.encode() and len(index) == 1:
                indexes.append(index[0])
            case _:
                raise refused(repr(identifier)[:80], f"['{word}', INDEX] after the first {what}")
    if indexes != sorted(set(indexes)):
        raise refused(f"order {indexes} of {what}s", "one for a component, in their order")
    if indexes and indexes[-1] >= count:
        raise refused(f"a {what} of component {indexes[-1]}", f"one of the {count} that there are")
    return indexes


def check_uri(uri: Any) -> str:
    """Check a payload's uri: "#name" inside the envelope, "name" beside it, or a URL.

    Raises:
        Malformed: `malformed.component`.
    """
    if not isinstance(uri, str) or len(uri) > MAX_URI_LENGTH:
        raise refused("uri", f"a text of at most {MAX_URI_LENGTH} characters")
    if not is_url(uri):
        check_name(uri.removeprefix("#"))
    return uri


def is_inside(uri: str) -> bool:
    """Tell whether a uri names a payload inside the envelope."""
    return uri.startswith("#")


def is_url(uri: str) -> bool:
    """Tell whether a payload's uri is a URL, and not a name beside or inside the envelope."""
    return _URL.fullmatch(uri) is not None


def check_unique(
    components: tuple[Component, ...], block_lists: tuple[BlockList, ...] = ()
) -> None:
    """Check that no two components share a place or a payload, ignoring case.

    One payload may be for the flash of several chips: it has an image for each. Block lists are
    payloads too, but have no place.

    Raises:
        Malformed: `malformed.component`.
    """
    places: set[str] = set()
    lists = {one.uri.removeprefix("#") for one in block_lists}
    keys = (keys_uri(index) for index, one in enumerate(components) if one.encrypted)
    lists.update(one.removeprefix("#") for one in keys)
    payloads: dict[str, list[Component]] = {}
    for component in components:
        place, payload = component.name.lower(), component.uri.lower().removeprefix("#")
        before = payloads.setdefault(payload, [])
        apart = all(_may_share(one, component) for one in before)
        if place in places or payload in lists or not apart:
            raise refused(f"{component.name!r} twice", "names that differ in more than case")
        places.add(place)
        before.append(component)


def _may_share(one: Component, other: Component) -> bool:
    """Tell whether two components are one payload for the flash of two chips."""
    here, there = one.flash, other.flash
    return one[1:] == other[1:] and bool(here and there and here.chip != there.chip)
