# SPDX-License-Identifier: Apache-2.0
"""Components of a release: their places, their digests, and the names they may have."""

import re
from typing import Any, Final, NamedTuple, cast

from fwsign.errors import Malformed

MAX_URI_LENGTH: Final = 2048
"""Characters; HTTP servers commonly take as many."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_CHIP = re.compile(r"[a-z][a-z0-9-]{1,15}")
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


class Component(NamedTuple):
    """One thing to be installed: its identifier, image digest, size in bytes and payload uri."""

    identifier: tuple[bytes, ...]
    digest: Digest
    size: int
    uri: str

    @property
    def name(self) -> str:
        """The component's name for people: a file name, or `esp32c3@0x10000`."""
        if self.identifier[0] == b"file":
            return self.identifier[1].decode()
        return f"{self.identifier[1].decode()}@0x{int.from_bytes(self.identifier[2], 'big'):x}"

    @property
    def payload_name(self) -> str:
        """The name of its payload's file: the end of the uri, else the component's name."""
        name = self.uri.removeprefix("#").rpartition("/")[2]
        try:
            return check_name(name)
        except Malformed:  # the uri ends in a query, say, or in nothing
            return self.name


def file_identifier(name: str) -> tuple[bytes, ...]:
    """Return the identifier of a file component."""
    return check_identifier((b"file", name.encode()))


def flash_identifier(chip: str, offset: int) -> tuple[bytes, ...]:
    """Return the identifier of a flash region; `offset` in bytes, at most 32 bits."""
    if not 0 <= offset < 1 << 32:
        raise _bad(f"offset 0x{offset:x}", "an offset of at most 32 bits")
    return check_identifier((b"flash", chip.encode(), offset.to_bytes(4, "big")))


def check_identifier(identifier: Any) -> tuple[bytes, ...]:
    """Check a component identifier: ['file', NAME] or ['flash', CHIP, OFFSET].

    Raises:
        Malformed: `malformed.component`.
    """
    match identifier:
        case (b"file", bytes(name)):
            check_name(name.decode(errors="replace"))
        case (b"flash", bytes(chip), bytes(offset)) if len(offset) == 4:
            _check_chip(chip.decode(errors="replace"))
        case (b"blocks", bytes()):
            raise _bad("a block list", "block lists after all components")
        case _:
            raise _bad(repr(identifier)[:80], "['file', NAME] or ['flash', CHIP, OFFSET]")
    return cast("tuple[bytes, ...]", identifier)


def check_block_indexes(identifiers: tuple[Any, ...], count: int) -> list[int]:
    """Check the identifiers of block lists; return the indexes of their components.

    Args:
        identifiers: each must be ['blocks', INDEX], with the indexes in ascending order.
        count: number of components.

    Raises:
        Malformed: `malformed.component`.
    """
    indexes: list[int] = []
    for identifier in identifiers:
        match identifier:
            case (b"blocks", bytes(index)) if len(index) == 1:
                indexes.append(index[0])
            case _:
                raise _bad(repr(identifier)[:80], "['blocks', INDEX] after the first block list")
    if indexes != sorted(set(indexes)):
        raise _bad(f"order {indexes} of block lists", "one for a component, in their order")
    if indexes and indexes[-1] >= count:
        raise _bad(f"a block list of component {indexes[-1]}", f"one of the {count} that there are")
    return indexes


def _check_chip(chip: str) -> None:
    if not _CHIP.fullmatch(chip):
        raise _bad(f"chip {chip!r}", "lower-case letters, digits and hyphens")


def check_name(name: str) -> str:
    """Check that a payload's file name is safe on every system and is no path.

    Raises:
        Malformed: `malformed.component`.
    """
    if not _NAME.fullmatch(name):
        raise _bad(f"name {name!r}", "1 to 100 of A-Z a-z 0-9 . _ + -, not . + or - first")
    if _RESERVED.fullmatch(name) or name.endswith("."):
        raise _bad(f"name {name!r}", "a name that Windows can have too")
    return name


def check_uri(uri: Any) -> str:
    """Check a payload's uri: "#name" inside the envelope, "name" beside it, or a URL.

    Raises:
        Malformed: `malformed.component`.
    """
    if not isinstance(uri, str) or len(uri) > MAX_URI_LENGTH:
        raise _bad("uri", f"a text of at most {MAX_URI_LENGTH} characters")
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
    payloads: dict[str, list[Component]] = {}
    for component in components:
        place, payload = component.name.lower(), component.uri.lower().removeprefix("#")
        before = payloads.setdefault(payload, [])
        apart = all(_may_share(one, component) for one in before)
        if place in places or payload in lists or not apart:
            raise _bad(f"{component.name!r} twice", "names that differ in more than case")
        places.add(place)
        before.append(component)


def _may_share(one: Component, other: Component) -> bool:
    """Tell whether two components are one payload for the flash of two chips."""
    return (
        one[1:] == other[1:]
        and one.identifier[0] == other.identifier[0] == b"flash"
        and one.identifier[1] != other.identifier[1]
    )


def _bad(found: str, expected: str) -> Malformed:
    return Malformed(
        "malformed.component",
        f"component: {found} is not allowed, expected {expected}",
        expected=expected,
        found=found,
    )
