# SPDX-License-Identifier: Apache-2.0
"""What SUIT counts as components: those that are installed, their ciphertexts and block lists.

A manifest names them in this order. It fetches the block lists first. Each ciphertext comes before
the component that it is decrypted into (draft-ietf-suit-firmware-encryption: fetch, then copy).
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from fwsign.format.component import (
    BlockList,
    Ciphertext,
    Component,
    Digest,
    Encrypted,
    check_indexes,
    check_unique,
    check_uri,
)
from fwsign.format.encryption import decode_signed, encode_signed
from fwsign.format.kinds import check_identifier
from fwsign.format.suit_labels import Parameter, SuitCommand

Item: TypeAlias = Component | Ciphertext | BlockList


def fetch_of(
    item: Item, components: Sequence[Component], source: int | None
) -> tuple[dict[int, Any], int]:
    """Return how an item gets its bytes: parameters, and the directive that uses them.

    Args:
        item: the item.
        components: the components of the manifest.
        source: the index of an encrypted component's ciphertext.
    """
    if isinstance(item, Component) and item.encrypted is not None:
        info = encode_signed(item.encrypted.nonce, item.encrypted.key_digest)
        parameters = {Parameter.ENCRYPTION_INFO: info, Parameter.SOURCE_COMPONENT: source}
        return parameters, SuitCommand.COPY
    owner = components[item.component_index] if isinstance(item, Ciphertext) else item
    return {Parameter.URI: owner.uri}, SuitCommand.FETCH


def fetch_order(encrypted: Sequence[int], count: int, total: int) -> list[int]:
    """Return the indexes of all items in the order of the install sequence.

    Args:
        encrypted: the indexes of the encrypted components.
        count: the number of components.
        total: the number of components, ciphertexts and block lists.
    """
    order = [*range(count + len(encrypted), total)]
    for index in range(count):
        if index in encrypted:
            order.append(count + encrypted.index(index))
        order.append(index)
    return order


def read_items(
    identifiers: tuple[Any, ...], images: Sequence[tuple[Digest, int]], fetches: Sequence[Any]
) -> tuple[tuple[Component, ...], tuple[BlockList, ...]]:
    """Make components and block lists from the sequences' values, and check each.

    Args:
        identifiers: the components, as SUIT counts them.
        images: digest and size of each.
        fetches: the parameters of each, in the order of the install sequence.

    Raises:
        Malformed: `malformed.component`, `malformed.cbor`, `malformed.encryption`.
    """
    count = _first(identifiers, b"encrypted", b"blocks")
    after = _first(identifiers, b"blocks")
    ciphers = check_indexes("encrypted", identifiers[count:after], count)
    lists = check_indexes("blocks", identifiers[after:], count)
    order = fetch_order(ciphers, count, len(identifiers))
    rows = dict(zip(order, fetches, strict=True))
    encrypted: dict[int, Encrypted] = {}
    for at, index in enumerate(ciphers, count):
        info = decode_signed(rows[index].get(Parameter.ENCRYPTION_INFO))
        encrypted[index] = Encrypted(*images[at], *info)
        rows[index] = rows[at]  # the uri is that of the ciphertext
    components = tuple(
        Component(
            check_identifier(identifiers[index]),
            *images[index],
            check_uri(rows[index].get(Parameter.URI)),
            encrypted.get(index),
        )
        for index in range(count)
    )
    block_lists = tuple(
        BlockList(index, digest, size)
        for index, (digest, size) in zip(lists, images[after:], strict=True)
    )
    check_unique(components, block_lists)
    return components, block_lists


def _first(identifiers: tuple[Any, ...], *words: bytes) -> int:
    """Return the index of the first identifier that begins with one of the words, else the end."""
    for index, one in enumerate(identifiers):
        if isinstance(one, tuple) and one[:1] and one[0] in words:
            return index
    return len(identifiers)
