# SPDX-License-Identifier: Apache-2.0
"""From an envelope to the cipher of each encrypted payload: read the wrapped keys, open one."""

from collections.abc import Mapping, Sequence

from fwsign.errors import Malformed
from fwsign.format.blocks import MAX_BLOCK_SIZE
from fwsign.format.ciphertext import BlockCipher, ciphertext_size
from fwsign.format.component import Component, keys_uri
from fwsign.format.encryption import Recipient, decode_recipients
from fwsign.format.key_wrap import AgreementKey, unwrap
from fwsign.format.payload import Blocks


def decode_encryptions(
    components: Sequence[Component], integrated: Mapping[str, bytes], lists: Mapping[str, Blocks]
) -> dict[str, tuple[Recipient, ...]]:
    """Check and decode the wrapped keys; return them by the names of their components.

    Args:
        components: the components of the manifest.
        integrated: the payloads inside the envelope; the keys must be among them.
        lists: the block lists, by the names of their components.

    Raises:
        Malformed: `malformed.encryption`, `malformed.cbor`, `malformed.size`.
    """
    found = {}
    for index, component in enumerate(components):
        if component.encrypted is None:
            continue
        _check_size(component, lists.get(component.name))
        data = integrated[keys_uri(index)]
        found[component.name] = decode_recipients(component, component.encrypted, data)
    return found


def _check_size(component: Component, blocks: Blocks | None) -> None:
    """Check that the ciphertext has the size that its blocks give it."""
    size = component.carried.size
    expected = ciphertext_size(component.size, blocks.size if blocks else 0)
    if size != expected:
        raise Malformed(
            "malformed.encryption",
            f'the ciphertext of "{component.name}" has {size} bytes, {component.size} bytes become '
            f"{expected}",
            expected=expected,
            found=size,
        )
    if blocks is None and size > MAX_BLOCK_SIZE:
        raise Malformed(
            "malformed.encryption",
            f'the ciphertext of "{component.name}" has {size} bytes and no block list, at most '
            f"{MAX_BLOCK_SIZE} bytes are one block",
            expected="a block list",
            found="none",
        )


def cipher_of(
    component: Component,
    recipients: Sequence[Recipient],
    blocks: Blocks | None,
    keys: Sequence[AgreementKey],
) -> BlockCipher | None:
    """Return the cipher of a payload; None if it is not encrypted, or no key is given.

    Args:
        component: the component.
        recipients: its wrapped keys.
        blocks: its block list.
        keys: the keys of this device.

    Raises:
        Unsuitable: `unsuitable.recipient`; Tampered: `tampered.content-key`.
    """
    encrypted = component.encrypted
    if encrypted is None or not keys:
        return None
    content_key = unwrap(component, encrypted, recipients, keys)
    size = encrypted.size
    return BlockCipher(content_key, encrypted.nonce, size, blocks.size if blocks else size)
